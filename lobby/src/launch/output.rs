//! What a process writes, in a file of its own.
//!
//! A pipe would break when the lobby is closed before the game, and with it the game, as soon as it writes another line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// How much of the end is looked at, in bytes.
const TAIL_BYTES_MAX: u64 = 32 * 1024;

/// The output of one process. The file goes when this is dropped; a process that still writes does not notice.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
}

impl Output {
    /// A new file, and two handles to write to it: for standard output and error. Only this user can read it: tickets are
    /// written there.
    pub(super) fn create() -> io::Result<(Self, File, File)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut salt = [0; 8];
        getrandom::fill(&mut salt)?;
        let name = format!("peerflock-{}-{number}-{:016x}.log", std::process::id(), u64::from_le_bytes(salt));
        let path = std::env::temp_dir().join(name);
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let out = options.open(&path)?;
        let output = Self { path };
        let err = out.try_clone()?;
        Ok((output, out, err))
    }

    /// What was written last.
    pub(super) fn text(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // A file that somebody cleaned away has nothing more to say.
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_handles_write_to_the_end_and_the_file_goes() {
        let (output, mut out, mut err) = Output::create().unwrap();
        writeln!(out, "one").unwrap();
        writeln!(err, "two").unwrap();
        writeln!(out, "three").unwrap();
        assert_eq!(output.text(), "one\ntwo\nthree\n");
        out.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(output.text().len() as u64, TAIL_BYTES_MAX);
        let path = output.path.clone();
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o077, 0);
        drop(output);
        assert!(!path.exists());
        writeln!(out, "still going").unwrap();
    }
}
