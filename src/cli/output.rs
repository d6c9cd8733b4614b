//! The output of commands.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Prints the output of a command that has succeeded. A closed pipe is no error, since the reader has what it needs.
///
/// # Errors
/// If standard output cannot be written, such as to a full disk.
pub fn print(answer: impl Display) -> anyhow::Result<()> {
    match write(&answer) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// Prints a secret that is shown only once: here a closed pipe is an error.
///
/// # Errors
/// If standard output cannot be written.
pub fn hand_over(answer: impl Display) -> anyhow::Result<()> {
    write(&answer).context("cannot write to standard output")
}

fn write(answer: &impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{answer}")?;
    out.flush()
}
