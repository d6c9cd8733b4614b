//! User agents in the formats of apps: Meta's bracket, such as
//! `[FBAN/FB4A;FBAV/490.0;FBDV/SM-A546B;FBSV/14]`, after a browser's user agent or alone, and
//! Instagram's list, such as `Android (34/14; 450dpi; 1080x2177; samsung; SM-A546B; ...)`.

use crate::session::device::names::{Name, leading_number};

/// Marks of apps with a built-in browser, and the names that users know. The version follows the mark.
const APPS: &[(&str, &str)] = &[
    ("fban/messenger", "Messenger"),
    ("fban/orca", "Messenger"),
    ("fb_iab/orca", "Messenger"),
    ("fb_iab/messenger", "Messenger"),
    ("instagram ", "Instagram"),
    ("barcelona ", "Threads"),
    ("fban/", "Facebook"),
    ("fb_iab/", "Facebook"),
    ("musical_ly_", "TikTok"),
    ("trill_", "TikTok"),
    ("tiktok ", "TikTok"),
    ("com.zhiliaoapp.musically/", "TikTok"),
    ("com.ss.android.ugc.trill/", "TikTok"),
    ("bytedancewebview/", "TikTok"),
    ("micromessenger/", "WeChat"),
    ("snapchat/", "Snapchat"),
    ("snapchat ", "Snapchat"),
    ("pinterest/", "Pinterest"),
    (" line/", "Line"),
];

/// The app that displays the page. `lower` is `user_agent` in lower case.
pub fn app(user_agent: &str, lower: &str) -> Option<Name> {
    let (mark, name) = APPS.iter().find(|(mark, _)| lower.contains(mark))?;
    let own = lower.split_once(mark).and_then(|(_, version)| leading_number(version));
    // TikTok's version numbers on Android are builds.
    let own = own.filter(|version| version.len() <= 4);
    let version = field(user_agent, "FBAV").and_then(leading_number).or(own);
    Name::new(name, version)
}

/// The operating system, if the app states it in its own format.
pub fn system(user_agent: &str) -> Option<Name> {
    if let Some((_, list)) = user_agent.split_once("Android (")
        && let Some(version) = list.split(';').next().and_then(|levels| levels.split_once('/'))
    {
        return Name::new("Android", leading_number(version.1));
    }
    let device = model(user_agent)?;
    let family = match field(user_agent, "FBSN") {
        Some("iOS" | "iPhone OS" | "iPadOS") => "iOS",
        None if device.starts_with('i') => "iOS",
        None | Some("Android") => "Android",
        Some(_) => return None,
    };
    Name::new(family, field(user_agent, "FBSV").and_then(leading_number))
}

/// The model, if the app states it in its own format.
pub fn model(user_agent: &str) -> Option<&str> {
    let list = user_agent.split_once("Android (").map(|(_, list)| list);
    let listed = list.filter(|list| list.starts_with(|c: char| c.is_ascii_digit()));
    let listed = listed.and_then(|list| list.split(';').nth(4)).map(str::trim);
    listed.or_else(|| field(user_agent, "FBDV")).filter(|model| !model.is_empty())
}

/// A field of the bracket.
fn field<'a>(user_agent: &'a str, name: &str) -> Option<&'a str> {
    let (_, inside) = user_agent.split_once("[FB")?;
    let inside = inside.split_once(']').map_or(inside, |(inside, _)| inside);
    let values = inside.split(';').filter_map(|part| part.split_once('/'));
    values.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}
