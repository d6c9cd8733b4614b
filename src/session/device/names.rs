//! Display names of systems, browsers and apps: the results of the patterns in the words that users
//! know, without frozen versions.

use crate::session::device::table::{self, NamedVersion};
use crate::session::device::{apple, in_app};

/// The name, and the major version if it is meaningful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub family: String,
    pub major: Option<String>,
}

/// Products that browsers claim for compatibility: they identify no browser.
const PRETENDED: [&str; 3] = ["mozilla", "opera", "dalvik"];

/// Families as the patterns name them, and as users do.
const BROWSERS: &[(&str, &str)] = &[
    ("Chrome Mobile", "Chrome"),
    ("Chrome Mobile iOS", "Chrome"),
    ("Chrome Mobile WebView", "WebView"),
    ("DuckDuckGo Mobile", "DuckDuckGo"),
    ("Edge Mobile", "Edge"),
    ("Firefox Mobile", "Firefox"),
    ("Firefox iOS", "Firefox"),
    ("IE", "Internet Explorer"),
    ("IE Mobile", "Internet Explorer"),
    ("MiuiBrowser", "Mi Browser"),
    ("Mobile Safari", "Safari"),
    ("Mobile Safari UI/WKWebView", "WebView"),
    ("Opera Mobile", "Opera"),
    ("Slack Desktop Client", "Slack"),
    ("Yandex Browser", "Yandex Browser"),
];

const SYSTEMS: &[(&str, &str)] =
    &[("ATV OS X", "tvOS"), ("Mac OS X", "macOS"), ("WatchOS", "watchOS"), ("Web0S", "webOS")];

/// Browsers without a pattern: a product, and its display name.
const MORE_BROWSERS: [(&str, &str); 3] = [
    ("discord", "Discord"),
    ("huaweibrowser", "Huawei Browser"),
    ("oculusbrowser", "Oculus Browser"),
];
/// Systems without a pattern: the text before the version, and the display name.
const MORE_SYSTEMS: [(&str, &str); 6] = [
    ("playstation ", "PlayStation"),
    ("openharmony", "HarmonyOS"),
    ("harmonyos", "HarmonyOS"),
    ("tvos ", "tvOS"),
    ("apple vision;", "visionOS"),
    ("nintendo switch", "Nintendo Switch"),
];

impl Name {
    /// `None` if the name is not fit for display.
    pub fn new(family: &str, major: Option<&str>) -> Option<Name> {
        let plain = |c: char| c.is_alphanumeric() || " ._-+!&()".contains(c);
        let family = family.trim();
        let fits = !family.is_empty() && family.chars().count() <= 48 && family.chars().all(plain);
        let short = |major: &&str| {
            (1..=8).contains(&major.len()) && major.chars().all(|c| c.is_ascii_alphanumeric())
        };
        fits.then(|| Name {
            family: family.to_owned(),
            major: major.filter(short).map(str::to_owned),
        })
    }

    /// `Chrome 131`, or `Chrome`.
    pub fn text(&self) -> String {
        match &self.major {
            Some(major) => format!("{} {major}", self.family),
            None => self.family.clone(),
        }
    }
}

/// The operating system. `lower` is `user_agent` in lower case.
pub fn system(user_agent: &str, lower: &str) -> Option<Name> {
    for (before, name) in MORE_SYSTEMS {
        if let Some((_, rest)) = lower.split_once(before) {
            return Name::new(name, leading_number(rest.trim_start()));
        }
    }
    if let Some(told) = in_app::system(user_agent).or_else(|| apple::system(lower)) {
        return Some(told);
    }
    let NamedVersion { name, major } = table::system(user_agent)?;
    let family = known_as(SYSTEMS, &name);
    let frozen = match family {
        // Windows 11 and every macOS since 10.15 state version 10.
        "Windows" | "macOS" => major.as_deref() == Some("10"),
        // Chrome's reduced user agent: no version, and the model "K".
        "Android" => lower.contains("android 10; k)"),
        "Chrome OS" | "Chromecast" => true,
        _ => false,
    };
    Name::new(family, major.filter(|_| !frozen).as_deref())
}

/// The browser or app.
pub fn browser(user_agent: &str, lower: &str, system: Option<&Name>, is_bot: bool) -> Option<Name> {
    if let Some(app) = in_app::app(user_agent, lower).filter(|_| !is_bot) {
        return Some(app);
    }
    // A single word is a name, such as `node`.
    if user_agent.chars().all(|c| c.is_ascii_alphabetic()) {
        return Name::new(user_agent, None);
    }
    if let Some((name, version)) = own_product(user_agent) {
        // Safari and its parts state their build as version, such as 15612.
        let build = name.ends_with("Safari") && version.len() > 3;
        return Name::new(if build { "Safari" } else { &name }, Some(version).filter(|_| !build));
    }
    if system.is_some_and(|system| system.family == "PlayStation") {
        return None;
    }
    for (name, version) in products(user_agent) {
        let lower = name.to_lowercase();
        if let Some((_, shown)) = MORE_BROWSERS.iter().find(|(product, _)| *product == lower) {
            return Name::new(shown, leading_number(version));
        }
    }
    let found = table::browser(user_agent)
        .and_then(|found| Name::new(known_as(BROWSERS, &found.name), found.major.as_deref()))
        .filter(|found| system.is_none_or(|system| system.family != found.family));
    // A bot that the patterns misread comes last among the products.
    let named = products(user_agent)
        .filter(|(name, _)| is_bot && !PRETENDED.contains(&name.to_lowercase().as_str()));
    found.or_else(|| named.last().and_then(|(name, v)| Name::new(name, leading_number(v))))
}

/// The first product of the text, unless it is a compatibility claim: such a program identifies itself. Services of
/// Apple's systems state the system before themselves.
pub fn own_product(user_agent: &str) -> Option<(String, &str)> {
    let (mut name, mut version) = user_agent.split_once('/')?;
    if apple::is_system(&name.to_lowercase()) {
        (name, version) = products(version).next()?;
    }
    let version = leading_number(version)?;
    let name = name.replace("%20", " ");
    let own = name.starts_with(|c: char| c.is_alphabetic())
        && !PRETENDED.contains(&name.to_lowercase().as_str());
    own.then_some((name, version))
}

/// Every `name/1...` in the text.
pub fn products(user_agent: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = user_agent.split(|c: char| c.is_whitespace() || "();,".contains(c));
    parts
        .filter_map(|part| part.split_once('/'))
        .filter(|(name, version)| !name.is_empty() && leading_number(version).is_some())
}

/// The leading digits of the text.
pub fn leading_number(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some(&text[..end]).filter(|number| !number.is_empty())
}

fn known_as<'a>(names: &[(&str, &'a str)], name: &'a str) -> &'a str {
    names.iter().find(|(from, _)| *from == name).map_or(name, |(_, to)| *to)
}
