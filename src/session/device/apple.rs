//! Apple's network library, which apps send as their user agent: `Name/1 CFNetwork/3826.400.120
//! Darwin/25.0.0`. It states the kernel, and sometimes the platform. Source for the release of each
//! kernel: the history in Wikipedia's "Darwin (operating system)".
//!
//! And the services of Apple's systems: `iOS/18.6 (22G86) dataaccessd/1.0` and
//! `server-bag [Mac OS X,15.5,24F74,Mac15,3]`.

use crate::session::device::names::{Name, leading_number};

/// Marks of a platform other than iOS. Only new versions of the library name it themselves.
const PLATFORMS: &[(&str, &[&str])] = &[
    (
        "macOS",
        &[
            "macos",
            "(x86_64)",
            "%28x86_64%29",
            "(i386)",
            "(power",
            "(mac",
            "%28mac",
            "(imac",
            "%28imac",
        ],
    ),
    ("watchOS", &["watchos", "(watch", "%28watch"]),
    ("tvOS", &["tvos", "appletv", "apple tv"]),
    ("visionOS", &["visionos", "xros", "realitydevice"]),
];

/// The systems as services state them in lower case, and their display names.
const STATED: &[(&str, &str)] = &[
    ("ios", "iOS"),
    ("iphone os", "iOS"),
    ("ipados", "iOS"),
    ("mac os x", "macOS"),
    ("macos", "macOS"),
    ("watchos", "watchOS"),
    ("watch os", "watchOS"),
    ("tvos", "tvOS"),
    ("apple tvos", "tvOS"),
    ("visionos", "visionOS"),
    ("xros", "visionOS"),
];

/// The operating system of such a program. `lower` is the user agent in lower case.
pub fn system(lower: &str) -> Option<Name> {
    stated(lower).or_else(|| library(lower))
}

/// Whether the name is that of a system.
pub fn is_system(lower: &str) -> bool {
    STATED.iter().any(|(name, _)| *name == lower)
}

/// The system before the first `/`, or in brackets.
fn stated(lower: &str) -> Option<Name> {
    let bracket = || lower.split_once('[').and_then(|(_, inside)| inside.split_once(','));
    let (name, version) =
        lower.split_once('/').filter(|(name, _)| is_system(name)).or_else(bracket)?;
    let (_, family) = STATED.iter().find(|(stated, _)| *stated == name)?;
    Name::new(family, leading_number(version).filter(|_| *family != "macOS"))
}

/// The system whose kernel the network library states.
fn library(lower: &str) -> Option<Name> {
    let (_, library) = lower.split_once("cfnetwork/")?;
    let (_, kernel) = library.split_once("darwin/")?;
    let kernel = leading_number(kernel).and_then(|number| number.parse().ok()).unwrap_or(0);
    let tells = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let family = PLATFORMS.iter().find(|(_, words)| tells(words)).map_or("iOS", |(name, _)| name);
    let major = release(family, kernel).map(|major| major.to_string());
    Name::new(family, major.as_deref())
}

/// The release of a kernel version. None for macOS, because its browsers state none either.
fn release(family: &str, kernel: u32) -> Option<u32> {
    // Since 2025 each release is numbered by the following year.
    if (25..100).contains(&kernel) && family != "macOS" {
        return Some(kernel + 1);
    }
    match (family, kernel) {
        ("iOS", 10..25) | ("tvOS", 15..25) => Some(kernel - 6),
        ("watchOS", 15..25) => Some(kernel - 13),
        ("visionOS", 23..25) => Some(kernel - 22),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::system;

    #[test]
    fn the_kernel_tells_the_release() {
        for (told, shown) in [
            ("a/1 cfnetwork/1.2 darwin/9.4", Some("iOS")),
            ("a/1 cfnetwork/1.2 darwin/10.0", Some("iOS 4")),
            ("a/1 cfnetwork/1.2 darwin/24.6", Some("iOS 18")),
            ("a/1 cfnetwork/1.2 darwin/25.0", Some("iOS 26")),
            ("a/1 cfnetwork/watchos/1.2 darwin/24.6", Some("watchOS 11")),
            ("a/1 cfnetwork/tvos/1.2 darwin/14.0", Some("tvOS")),
            ("a/1 cfnetwork/visionos/1.2 darwin/23.1", Some("visionOS 1")),
            ("a/1 cfnetwork/1.2 darwin/99999999999", Some("iOS")),
            ("a/1 cfnetwork/1.2 darwin/", Some("iOS")),
            ("ios/18.6 (22g86) dataaccessd/1.0", Some("iOS 18")),
            ("macos/15.5 (24f74) dataaccessd/1.0", Some("macOS")),
            ("server-bag [iphone os,18.5,22f76,iphone15,2]", Some("iOS 18")),
            ("server-bag [watch os,11.5,22t572,watch7,5]", Some("watchOS 11")),
            ("server-bag [other os,1,2,3]", None),
            ("a/1 darwin/25.0 cfnetwork/1.2", None),
            ("a/1 cfnetwork/1.2", None),
        ] {
            assert_eq!(system(told).map(|name| name.text()).as_deref(), shown, "{told}");
        }
    }
}
