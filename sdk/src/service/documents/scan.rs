//! What may be given to the CRDT library: bytes from others are walked through first, and only what we write ourselves passes.
//!
//! The library checks what it reads, but follows values into each other as deep as they go, and a stack that overflows ends the
//! program. So depth, counts and sizes are limited here, and sorts of content that nobody needs are refused. The form is lib0's update
//! encoding, version 1, as the library writes it.

/// Values inside values, so deep.
const DEPTH_MAX: usize = 16;
/// Longest formatting attribute, as JSON, in bytes.
const FORMAT_BYTES_MAX: usize = 1_024;
/// Numbers of a client's changes stay below this.
const CLOCK_MAX: u64 = 1 << 31;
/// The largest number of a writer.
pub(super) const WRITER_MAX: u64 = (1 << 53) - 1;

/// What was found in an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Shared texts, lists and maps inside others: the library goes as deep as there are of these.
    pub(super) nested: usize,
}

/// It is no update, or one of a sort that we do not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Walks through an update, all of it.
pub(super) fn scan(update: &[u8]) -> Result<Found, Refused> {
    let mut scan = Scan { rest: update, found: Found::default() };
    for _ in 0..scan.count()? {
        let blocks = scan.count()?;
        scan.writer()?;
        let mut clock = scan.number()?;
        for _ in 0..blocks {
            clock = clock.checked_add(scan.block()?).filter(|clock| *clock < CLOCK_MAX).ok_or(Refused)?;
        }
    }
    for _ in 0..scan.count()? {
        scan.writer()?;
        for _ in 0..scan.count()? {
            let (clock, len) = (scan.number()?, scan.number()?);
            clock.checked_add(len).filter(|end| *end < CLOCK_MAX).ok_or(Refused)?;
        }
    }
    if scan.rest.is_empty() { Ok(scan.found) } else { Err(Refused) }
}

struct Scan<'a> {
    rest: &'a [u8],
    found: Found,
}

impl<'a> Scan<'a> {
    /// A block; how many numbers it takes.
    fn block(&mut self) -> Result<u64, Refused> {
        const GC: u8 = 0;
        const SKIP: u8 = 10;
        const ORIGIN: u8 = 0x80;
        const RIGHT_ORIGIN: u8 = 0x40;
        const PARENT_SUB: u8 = 0x20;
        let info = self.byte()?;
        if info == GC || info == SKIP {
            return self.number();
        }
        for _ in 0..u32::from(info & ORIGIN != 0) + u32::from(info & RIGHT_ORIGIN != 0) {
            self.id()?;
        }
        if info & (ORIGIN | RIGHT_ORIGIN) == 0 {
            match self.number()? {
                1 => self.text().map(drop)?,
                _ => self.id()?,
            }
            if info & PARENT_SUB != 0 {
                self.text()?;
            }
        }
        self.content(info & 0x0f)
    }

    fn content(&mut self, sort: u8) -> Result<u64, Refused> {
        match sort {
            // Deleted.
            1 => self.number(),
            // Bytes.
            3 => self.bytes().map(|_| 1),
            4 => self.text().map(|text| text.len() as u64),
            // The format of a text: a key and a value.
            6 => {
                self.text()?;
                let value = self.text()?;
                if value.len() <= FORMAT_BYTES_MAX { Ok(1) } else { Err(Refused) }
            }
            // A shared list, map or text.
            7 if self.byte()? <= 2 => {
                self.found.nested += 1;
                Ok(1)
            }
            // Values.
            8 => {
                let count = self.count()?;
                for _ in 0..count {
                    self.value(0)?;
                }
                Ok(count)
            }
            _ => Err(Refused),
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), Refused> {
        if depth > DEPTH_MAX {
            return Err(Refused);
        }
        match self.byte()? {
            120 | 121 | 126 | 127 => {}
            122 | 123 => drop(self.take(8)?),
            124 => drop(self.take(4)?),
            125 => drop(self.number()?),
            119 => drop(self.text()?),
            116 => drop(self.bytes()?),
            118 => {
                for _ in 0..self.count()? {
                    self.text()?;
                    self.value(depth + 1)?;
                }
            }
            117 => {
                for _ in 0..self.count()? {
                    self.value(depth + 1)?;
                }
            }
            _ => return Err(Refused),
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<(), Refused> {
        if self.number()? <= WRITER_MAX { Ok(()) } else { Err(Refused) }
    }

    fn id(&mut self) -> Result<(), Refused> {
        self.writer()?;
        if self.number()? < CLOCK_MAX { Ok(()) } else { Err(Refused) }
    }

    /// Of things that take a byte each at the least: no more than there are bytes.
    fn count(&mut self) -> Result<u64, Refused> {
        let count = self.number()?;
        if count <= self.rest.len() as u64 { Ok(count) } else { Err(Refused) }
    }

    fn text(&mut self) -> Result<&'a str, Refused> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Refused)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Refused> {
        let len = usize::try_from(self.number()?).map_err(|_| Refused)?;
        self.take(len)
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        self.take(1).map(|byte| byte[0])
    }

    /// Seven bits to a byte, low ones first. A signed one is as long.
    fn number(&mut self) -> Result<u64, Refused> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Refused)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Refused)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use yrs::{Any, Array, Doc, Map, MapPrelim, ReadTxn, StateVector, Text, Transact, WriteTxn};

    use super::*;

    fn document() -> Vec<u8> {
        let doc = Doc::with_client_id(7);
        let mut txn = doc.transact_mut();
        let text = txn.get_or_insert_text("text");
        text.push(&mut txn, "hello, wörld");
        text.remove_range(&mut txn, 1, 3);
        text.format(&mut txn, 0, 2, [("bold".into(), Any::Bool(true))].into());
        let list = txn.get_or_insert_array("list");
        list.push_back(&mut txn, 1.5);
        list.push_back(&mut txn, -70_000_i64);
        list.push_back(&mut txn, Any::from(vec![Any::Null, Any::from("x"), Any::from(vec![Any::Bool(false)])]));
        list.push_back(&mut txn, MapPrelim::from([("a", 1), ("b", 2)]));
        let map = txn.get_or_insert_map("map");
        map.insert(&mut txn, "bytes", Any::from(vec![1_u8, 2, 3]));
        map.insert(&mut txn, "bytes", Any::Undefined);
        drop(txn);
        doc.transact().encode_state_as_update_v1(&StateVector::default())
    }

    #[test]
    fn what_we_write_passes() {
        assert_eq!(scan(&document()), Ok(Found { nested: 1 }));
        assert_eq!(scan(&[0, 0]), Ok(Found::default()));
    }

    #[test]
    fn what_is_cut_or_longer_does_not() {
        let document = document();
        for len in 0..document.len() {
            assert_eq!(scan(&document[..len]), Err(Refused), "{len} bytes");
        }
        assert_eq!(scan(&[document.as_slice(), &[0]].concat()), Err(Refused));
    }

    #[test]
    fn what_goes_too_deep_does_not() {
        let nested = |depth: usize| {
            // One client with one block: a list of values in the list "l".
            let mut bytes = vec![1, 1, 7, 0, 8, 1, 1, b'l', 1];
            (0..depth).for_each(|_| bytes.extend([117, 1]));
            bytes.extend([126, 0]);
            bytes
        };
        assert!(scan(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(scan(&nested(DEPTH_MAX + 1)), Err(Refused));
        assert_eq!(scan(&nested(1_000_000)), Err(Refused));
        // A number that counts on beyond all numbers, and a claimed length.
        assert_eq!(scan(&[1, 1, 7, 0xff, 0xff, 0xff, 0xff, 0x07, 1, 1, 1, b'l', 9, 0]), Err(Refused));
        assert_eq!(scan(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Refused));
    }
}
