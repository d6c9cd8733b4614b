//! Loads the master key from the configuration, or generates it once in the data directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::Config;
use crate::config::file::{self, refuse_if_readable_by_others};
use crate::token::seal::MasterKey;

/// The master key of `config`, or the one in `data_dir`, which is generated if missing.
///
/// # Errors
/// If the key is invalid or not random, or its file cannot be read or written, or may be read by others.
pub fn load(config: &Config, data_dir: &Path) -> anyhow::Result<MasterKey> {
    if let Some(file) = &config.master_key_file {
        refuse_if_readable_by_others(file)?;
    }
    if let Some(text) = config.master_key()? {
        return parse(&text, "--master-key");
    }
    let path = data_dir.join("master.key");
    if !path.exists() && create(&path).with_context(|| format!("cannot make {}", path.display()))? {
        tracing::warn!(
            file = %path.display(),
            "made a master key; keep it: without it the signing keys in the database are lost"
        );
    }
    refuse_if_readable_by_others(&path)?;
    parse(&file::value(&path)?, &format!("the key in {}", path.display()))
}

/// Parses a key, and refuses one that is not random and thus can be guessed.
fn parse(text: &str, name: &str) -> anyhow::Result<MasterKey> {
    let key = MasterKey::parse(text).map_err(|rule| anyhow!("{name} {rule}"))?;
    let bytes = STANDARD.decode(text.trim()).unwrap_or_default();
    ensure!(
        is_random(&bytes),
        "{name} is not random: it is text, or repeats itself, as in an example; make one with \
         openssl rand -base64 32"
    );
    Ok(key)
}

/// Whether 32 bytes may be random. One in 10^13 random keys is mistaken for text; the other rules refuse even fewer.
fn is_random(bytes: &[u8]) -> bool {
    let text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let different = bytes.iter().collect::<BTreeSet<_>>().len();
    let halves = bytes.split_at(bytes.len() / 2);
    let step = |pair: &[u8]| pair[1].wrapping_sub(pair[0]);
    let mut steps = bytes.windows(2).map(step);
    let first = steps.next();
    let even = steps.all(|step| Some(step) == first);
    !text && different >= 16 && halves.0 != halves.1 && !even
}

/// Writes a new key to `file`, which appears complete and on the disk, or not at all. `false` if it exists: another
/// start was faster, and its key is the one to use.
fn create(file: &Path) -> io::Result<bool> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut suffix = [0; 8];
    aws_lc_rs::rand::fill(&mut suffix).map_err(io::Error::other)?;
    let aside = file.with_extension(format!("{:016x}.tmp", u64::from_ne_bytes(suffix)));
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let written = writeln!(out, "{}", MasterKey::generate()).and_then(|()| out.sync_all());
    // A link, unlike a rename, never replaces a file.
    let linked = written.and_then(|()| fs::hard_link(&aside, file));
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.and_then(|()| fs::File::open(dir)?.sync_all()).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_the_same_time_agree_on_one_key() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("new/master.key");
            let start = std::sync::Barrier::new(8);
            let made = std::thread::scope(|scope| {
                let starting = || {
                    start.wait();
                    let made = create(&file).unwrap();
                    (made, fs::read_to_string(&file).unwrap())
                };
                let starts: Vec<_> = (0..8).map(|_| scope.spawn(starting)).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(made.iter().filter(|(made, _)| *made).count(), 1);
            assert!(made.iter().all(|(_, key)| *key == made[0].1), "a key was replaced");
            assert!(parse(&made[0].1, "the key").is_ok());
            let left = fs::read_dir(file.parent().unwrap()).unwrap().count();
            assert_eq!(left, 1, "nothing is left beside it");
        }
    }

    #[test]
    fn generated_keys_pass_and_guessable_keys_do_not() {
        for _ in 0..1_000 {
            let key = MasterKey::generate();
            assert!(parse(&key, "--master-key").is_ok(), "{key}");
        }
        let counting: Vec<u8> = (0..32).collect();
        let mut twice: Vec<u8> = (0..16u8).map(|n| n.wrapping_mul(n) ^ 0x80).collect();
        twice.extend(twice.clone());
        let repeating: Vec<u8> = b"\x01\xfe\x80".iter().copied().cycle().take(32).collect();
        for bytes in [
            vec![0; 32],
            vec![255; 32],
            counting,
            twice,
            repeating,
            b"correct horse battery staple 123".to_vec(),
        ] {
            let error = parse(&STANDARD.encode(&bytes), "--master-key").err().expect("refused");
            let error = error.to_string();
            assert!(error.contains("openssl rand"), "{error}");
            assert!(!error.contains(&STANDARD.encode(&bytes)), "it repeats a secret: {error}");
        }
    }
}
