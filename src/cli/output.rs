//! What commands answer on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Prints the answer of a command that has done its work. A reader that wants no more of it is no failure.
///
/// # Errors
/// It cannot be written, such as to a full disk.
pub fn print(answer: impl Display) -> anyhow::Result<()> {
    match write(&answer) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// The same of an answer that is given only once: it must reach its reader.
///
/// # Errors
/// It cannot be written.
pub fn hand_over(answer: impl Display) -> anyhow::Result<()> {
    write(&answer).context("cannot write to standard output")
}

fn write(answer: &impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{answer}")?;
    out.flush()
}
