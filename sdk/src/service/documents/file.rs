//! Documents on disk: written whole or not at all, and checked when they are read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;

use super::replica::DOCUMENT_BYTES_MAX;

/// What such a file begins with; a hash of the rest follows.
const MAGIC: &[u8; 21] = b"peerflock document 1\n";
const HASH_BYTES: usize = 32;

/// Reads a document; none if there is none yet.
pub(super) fn read(path: &Path) -> io::Result<Option<Bytes>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let (head, mut bytes) = (MAGIC.len() + HASH_BYTES, Vec::new());
    file.take((head + DOCUMENT_BYTES_MAX) as u64 + 1).read_to_end(&mut bytes)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is no document, or a damaged one");
    if bytes.len() < head || bytes.len() > head + DOCUMENT_BYTES_MAX || !bytes.starts_with(MAGIC) {
        return Err(damaged());
    }
    let rest = Bytes::from(bytes).slice(MAGIC.len()..);
    if blake3::hash(&rest[HASH_BYTES..]).as_bytes() != &rest[..HASH_BYTES] {
        return Err(damaged());
    }
    Ok(Some(rest.slice(HASH_BYTES..)))
}

/// Writes a document. Whatever happens meanwhile, there is either the old one or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(MAGIC)?;
        file.write_all(blake3::hash(bytes).as_bytes())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // It may not even exist.
        _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_noticed() {
        let folder = std::env::temp_dir().join(format!("peerflock-document-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("plan");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap(), Some(Bytes::from_static(b"second")));
        // Interrupted while it was written: the file beside it is not the document.
        fs::write(folder.join("plan.new"), b"half").unwrap();
        assert_eq!(read(&path).unwrap(), Some(Bytes::from_static(b"second")));
        let whole = fs::read(&path).unwrap();
        for at in [0, 25, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {at}");
        }
        fs::write(&path, &whole[..30]).unwrap();
        assert!(read(&path).is_err());
        assert!(write(&folder.join("none/plan"), b"x").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
