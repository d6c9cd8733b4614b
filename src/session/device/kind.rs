//! The device type of a user agent: the first rule that matches, in the order of [`of`].
//!
//! Sources of the words: makers' publications (Huawei's ArkWeb, Chromium's user agent reduction,
//! Apple, Meta, Samsung, Tesla) and the lists of uap-core and Matomo's device-detector.

use crate::model::device::DeviceType;
use crate::session::device::names::{Name, own_product, products};

/// Crawlers, link previews, monitors and automated browsers; each matches the end of a word.
const BOTS: &[&str] = &[
    "bot",
    "spider",
    "crawler",
    "slurp",
    "archiver",
    "scrapy",
    "headlesschrome",
    "phantomjs",
    "lighthouse",
    "facebookexternalhit",
    "meta-externalagent",
    "mediapartners-google",
    "apis-google",
    "googleother",
    "google-inspectiontool",
    "chatgpt-user",
    "claude-user",
    "perplexity-user",
    "bingpreview",
    "pingdom",
    "statuscake",
    "uptime-kuma",
    "site24x7",
    "datadog",
    "kube-probe",
    "googlehc",
    "healthchecker",
    "blackbox exporter",
    "prometheus",
];

/// Libraries and command-line tools; with a `*`, any word with that prefix.
const LIBRARIES: &[&str] = &[
    "grpc*",
    "tonic",
    "connect-*",
    "curl",
    "libcurl",
    "wget",
    "httpie",
    "xh",
    "okhttp",
    "retrofit",
    "ktor-client",
    "java",
    "java-http-client",
    "apache-httpclient",
    "python*",
    "aiohttp",
    "httpx",
    "go-http-client",
    "axios",
    "node",
    "node-fetch",
    "undici",
    "got",
    "deno",
    "bun",
    "dart",
    "dio",
    "postmanruntime",
    "insomnia",
    "bruno-runtime",
    "ruby",
    "faraday",
    "guzzlehttp",
    "php",
    "symfony httpclient",
    "libwww-perl",
    "reqwest",
    "hyper",
    "restsharp",
    "rest-client",
    "git",
    "aws-*",
    "k6",
    "powershell",
];

/// Consoles, headsets, watches and cars.
const OTHERS: &[&str] = &[
    "playstation",
    "xbox",
    "nintendo",
    "oculusbrowser",
    "; quest ",
    "visionos",
    "watchos",
    "wear os",
    "wearos",
    "wearable;",
    " pixel watch",
    "; ticwatch",
    " sm-r",
    "qtcarbrowser",
    " tesla/",
    "; polestar",
    "android automotive",
    " aaos",
    "(aaos",
    "; sdk_gcar",
    "(car;",
];

/// HarmonyOS states the type first.
const COMPUTERS: &[&str] = &["(pc;", "(2in1;"];

const TELEVISIONS: &[&str] = &[
    "smart-tv",
    "smarttv",
    "smart tv",
    "hbbtv",
    "googletv",
    "google tv",
    "appletv",
    "apple tv",
    "tvos",
    "android tv",
    "androidtv",
    "bravia",
    "crkey",
    "chromecast",
    "roku",
    "netcast",
    "viera",
    "mitv",
    "mibox",
    "philipstv",
    "vidaa",
    "; aft",
    "web0s",
    "tv safari",
    "(tv;",
    "lg browser",
];

/// Words and models of tablets. The models are for apps, which neither state nor omit "Mobile" as browsers do.
const TABLETS: &[&str] = &[
    "tablet",
    " sm-t",
    "(sm-t",
    "/sm-t",
    " sm-x",
    "(sm-x",
    "/sm-x",
    "; kf",
    "nexus 7",
    "nexus 9",
    "nexus 10",
    "pixel c ",
    "lenovo tb",
    "mediapad",
    "matepad",
];

const PHONE_SYSTEMS: &[&str] = &[
    "iOS",
    "Android",
    "HarmonyOS",
    "KaiOS",
    "Windows Phone",
    "Windows Mobile",
    "BlackBerry OS",
    "Symbian OS",
    "Firefox OS",
    "Sailfish",
    "Tizen",
];

const DESKTOP_SYSTEMS: &[&str] = &[
    "Windows",
    "macOS",
    "Mac OS",
    "Linux",
    "Ubuntu",
    "Debian",
    "Fedora",
    "Red Hat",
    "CentOS",
    "SUSE",
    "Gentoo",
    "Arch Linux",
    "Mint",
    "Kubuntu",
    "Mandriva",
    "Slackware",
    "Chrome OS",
    "FreeBSD",
    "OpenBSD",
    "NetBSD",
    "Solaris",
];

/// The type. `lower` is `user_agent` in lower case.
pub fn of(
    user_agent: &str,
    lower: &str,
    system: Option<&Name>,
    browser: Option<&Name>,
) -> DeviceType {
    let runs = |systems: &[&str]| system.is_some_and(|name| systems.contains(&&*name.family));
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let is_browser = lower.starts_with("mozilla/") || lower.starts_with("opera/");

    if is_bot(lower) {
        DeviceType::Bot
    } else if is_library(user_agent, lower, system) {
        DeviceType::Api
    } else if has(OTHERS) || runs(&["watchOS", "visionOS"]) {
        DeviceType::Other
    } else if has(TELEVISIONS) || runs(&["tvOS"]) {
        DeviceType::Tv
    } else if has(COMPUTERS) {
        DeviceType::Desktop
    } else if is_tablet(lower, runs(&["Android", "HarmonyOS"]), is_browser) {
        DeviceType::Tablet
    } else if runs(PHONE_SYSTEMS) {
        DeviceType::Mobile
    } else if runs(DESKTOP_SYSTEMS) {
        DeviceType::Desktop
    } else if is_browser && browser.is_some() {
        DeviceType::Web
    } else if browser.is_some() || system.is_some() {
        DeviceType::Other
    } else {
        DeviceType::Unspecified
    }
}

/// Whether the user agent states that it is a crawler or a monitor.
pub fn is_bot(lower: &str) -> bool {
    BOTS.iter().any(|word| {
        lower.match_indices(word).any(|(at, _)| {
            let (before, after) = (&lower[..at], &lower[at + word.len()..]);
            // CUBOT makes phones.
            !after.starts_with(|c: char| c.is_alphabetic()) && !before.ends_with("cu")
        })
    })
}

/// Whether the client is a library: it comes first, or nothing else states a system.
fn is_library(user_agent: &str, lower: &str, system: Option<&Name>) -> bool {
    let listed = |name: &str| {
        LIBRARIES.iter().any(|library| match library.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *library,
        })
    };
    let first = own_product(user_agent).map(|(name, _)| name.to_lowercase());
    listed(first.as_deref().unwrap_or(lower))
        || system.is_none() && products(lower).any(|(name, _)| listed(name))
}

/// Browsers on Android tablets omit the word "Mobile" that those on phones state.
fn is_tablet(lower: &str, is_android: bool, is_browser: bool) -> bool {
    let named = || TABLETS.iter().any(|word| lower.contains(word));
    let says_phone = || ["mobile", "(phone;", "fbid/phone"].iter().any(|word| lower.contains(word));
    lower.contains("ipad") || is_android && (named() || is_browser && !says_phone())
}
