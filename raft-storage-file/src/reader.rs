//! Reading a file from the front through a window of memory.

use std::io;

use crate::files::Files;

/// A piece of a file in memory, which moves along with what is asked for.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    offset: u64,
    /// How many bytes are read at once, unless more are needed in one piece.
    step_bytes: usize,
}

impl Window {
    pub(crate) fn new(step_bytes: usize) -> Window {
        Window { bytes: Vec::new(), offset: 0, step_bytes }
    }

    /// The `length` bytes at `offset`, of a file whose length is `end`; `None` if it ends before
    /// them. Nothing is allocated for bytes that are not there.
    pub(crate) fn get<F: Files>(
        &mut self,
        files: &F,
        file: &F::File,
        end: u64,
        offset: u64,
        length: usize,
    ) -> io::Result<Option<&[u8]>> {
        let needed = offset.saturating_add(length as u64);
        if needed > end {
            return Ok(None);
        }
        let held = self.offset..=self.offset.saturating_add(self.bytes.len() as u64);
        if !(held.contains(&offset) && held.contains(&needed)) {
            let there = usize::try_from(end - offset).unwrap_or(usize::MAX);
            // Emptied first, so that an error leaves nothing behind that could be taken for bytes.
            self.bytes.clear();
            self.offset = offset;
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(there.min(self.step_bytes.max(length)), 0);
            files.read_at(file, &mut bytes, offset)?;
            self.bytes = bytes;
        }
        let start = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        Ok(self.bytes.get(start..).and_then(|bytes| bytes.get(..length)))
    }
}
