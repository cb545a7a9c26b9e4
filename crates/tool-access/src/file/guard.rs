//! Watches the bytes of a file on their way into the JSON parser.

use std::io::{self, Read};

use super::{LONGEST_GAP, LONGEST_TEXT, error::FileProblem};

/// What was wrong with the bytes, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) problem: FileProblem,
}

/// Passes bytes on, and fails where a text is so long that a parser would fill the memory with it. Skips a byte order
/// mark, and shows every byte to `see`.
pub(crate) struct Guard<'s, R> {
    inner: R,
    see: &'s mut dyn FnMut(&[u8]),
    fault: &'s mut Option<Fault>,
    started: bool,
    is_text: bool,
    is_escaped: bool,
    run: usize,
    line: usize,
    column: usize,
}

impl<'s, R: Read> Guard<'s, R> {
    pub(crate) fn new(
        inner: R,
        see: &'s mut dyn FnMut(&[u8]),
        fault: &'s mut Option<Fault>,
    ) -> Self {
        Self {
            inner,
            see,
            fault,
            started: false,
            is_text: false,
            is_escaped: false,
            run: 0,
            line: 1,
            column: 0,
        }
    }

    fn fail(&mut self, problem: FileProblem) -> io::Error {
        *self.fault = Some(Fault { line: self.line, column: self.column, problem });
        io::Error::other("stopped")
    }

    /// Skips a byte order mark of UTF-8 and refuses one of UTF-16.
    fn start(&mut self, buffer: &mut [u8], mut filled: usize) -> io::Result<usize> {
        self.started = true;
        while filled < 3 && filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        (self.see)(&buffer[..filled]);
        if buffer[..filled].starts_with(&[0xfe, 0xff])
            || buffer[..filled].starts_with(&[0xff, 0xfe])
        {
            self.column = 1;
            return Err(self.fail(FileProblem::NotUtf8));
        }
        if buffer[..filled].starts_with(&[0xef, 0xbb, 0xbf]) {
            buffer.copy_within(3..filled, 0);
            filled -= 3;
            if filled == 0 {
                filled = self.inner.read(buffer)?;
                (self.see)(&buffer[..filled]);
            }
        }
        Ok(filled)
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        for &byte in bytes {
            self.column += 1;
            self.run += 1;
            if self.is_text {
                if self.is_escaped {
                    self.is_escaped = false;
                } else if byte == b'\\' {
                    self.is_escaped = true;
                } else if byte == b'"' {
                    self.is_text = false;
                    self.run = 0;
                }
            } else if byte == b'"' {
                self.is_text = true;
                self.run = 0;
            }
            if byte == b'\n' {
                self.line += 1;
                self.column = 0;
            }
            if self.run > LONGEST_TEXT {
                if self.is_text {
                    let problem = FileProblem::TooLong { what: "text", limit: LONGEST_TEXT };
                    return Err(self.fail(problem));
                }
                if self.run > LONGEST_GAP {
                    let problem = FileProblem::TooLong { what: "gap", limit: LONGEST_GAP };
                    return Err(self.fail(problem));
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Guard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.inner.read(buffer)?;
        if self.started {
            (self.see)(&buffer[..filled]);
        } else {
            filled = self.start(buffer, filled)?;
        }
        self.check(&buffer[..filled])?;
        Ok(filled)
    }
}
