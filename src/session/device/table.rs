//! The patterns of uap-core; the only module that uses ua-parser. The patterns for device models
//! are not loaded: they are most of the data, and they map to names of phones instead of the stated
//! model.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;
use ua_parser::{os, user_agent};

/// A name, and its major version if stated.
pub struct NamedVersion<'a> {
    pub name: Cow<'a, str>,
    pub major: Option<String>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(Patterns::load);

/// Builds the patterns, unless they are built. Takes tens of milliseconds.
pub fn load() {
    LazyLock::force(&PATTERNS);
}

/// The browser or app that the patterns find.
pub fn browser(user_agent: &str) -> Option<NamedVersion<'_>> {
    let found = PATTERNS.browsers.extract(user_agent)?;
    Some(NamedVersion { name: found.family, major: found.major.map(|major| major.to_string()) })
}

/// The operating system that the patterns find.
pub fn system(user_agent: &str) -> Option<NamedVersion<'_>> {
    let found = PATTERNS.systems.extract(user_agent)?;
    Some(NamedVersion { name: found.os, major: found.major.map(|major| major.to_string()) })
}

struct Patterns {
    browsers: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
}

#[derive(Deserialize)]
struct File {
    user_agent_parsers: Vec<user_agent::Parser<'static>>,
    os_parsers: Vec<os::Parser<'static>>,
}

impl Patterns {
    fn load() -> Patterns {
        let text = include_str!("../../../data/uap-core/regexes.yaml");
        let file: File = serde_yaml_ng::from_str(text).expect("the vendored file is well formed");
        let browsers = file
            .user_agent_parsers
            .into_iter()
            .try_fold(user_agent::Builder::new(), user_agent::Builder::push)
            .expect("the vendored patterns are valid");
        let systems = file
            .os_parsers
            .into_iter()
            .try_fold(os::Builder::new(), os::Builder::push)
            .expect("the vendored patterns are valid");
        Patterns {
            browsers: browsers.build().expect("the vendored patterns are not too many"),
            systems: systems.build().expect("the vendored patterns are not too many"),
        }
    }
}
