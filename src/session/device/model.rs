//! The model of a device, if its user agent states a real one.

use crate::session::device::in_app;

/// The longest model, in characters.
const MOST: usize = 64;

/// `SM-S918B` of an Android system, `iPhone15,2` of an app on an Apple system. Browsers on Android
/// froze theirs to `K` (Chromium's user agent reduction), and Safari states none.
pub fn model(user_agent: &str) -> Option<String> {
    let comment = comment(user_agent);
    let parts = || comment.split(';').map(str::trim);
    let android = parts().skip_while(|part| !part.starts_with("Android")).skip(1);
    let model = android
        .map(|part| part.split(" Build/").next().unwrap_or_default().trim())
        .find(|part| is_android_model(part))
        .or_else(|| in_app::model(user_agent))
        .or_else(|| parts().find(|part| is_apple_model(part)))?;
    let plain =
        model.chars().count() <= MOST && model.is_ascii() && !model.contains(char::is_control);
    plain.then(|| model.to_owned())
}

/// The content of the first brackets, which may be nested: `moto g(60)` is a model.
fn comment(user_agent: &str) -> &str {
    let Some((_, rest)) = user_agent.split_once('(') else { return "" };
    let mut open = 1_usize;
    let end = rest.find(|c| {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// False for the other entries after the system: the frozen model, a web view, a form, a version, a language.
fn is_android_model(part: &str) -> bool {
    const OTHERS: [&str; 9] = ["", "K", "wv", "U", "Mobile", "Tablet", "TV", "HarmonyOS", "AAOS"];
    let is_version = part.starts_with("rv:") || part.starts_with("Build/");
    !OTHERS.contains(&part) && !is_version && !is_language(part)
}

/// A language in lower case, alone or with a script and a region: `en`, `en-us`, `zh_Hans_CN`, `es-419`.
fn is_language(part: &str) -> bool {
    let mut tags = part.split(['-', '_']);
    let letters = |tag: &str| tag.bytes().all(|b| b.is_ascii_alphabetic());
    let is_first =
        |tag: &str| matches!(tag.len(), 2 | 3) && tag.bytes().all(|b| b.is_ascii_lowercase());
    let is_next = |tag: &str| match tag.len() {
        2 => letters(tag),
        3 => tag.bytes().all(|b| b.is_ascii_digit()),
        4 => letters(tag) && tag.starts_with(|c: char| c.is_ascii_uppercase()),
        _ => false,
    };
    tags.next().is_some_and(is_first) && tags.all(is_next)
}

/// A name and two numbers, as Apple numbers its hardware.
fn is_apple_model(part: &str) -> bool {
    const LINES: [&str; 6] = ["iPhone", "iPad", "iPod", "Watch", "AppleTV", "Mac"];
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let numbers = LINES.iter().find_map(|line| part.strip_prefix(line));
    numbers.and_then(|numbers| numbers.split_once(',')).is_some_and(|(major, minor)| {
        digits(major.trim_start_matches(|c: char| c.is_ascii_alphabetic())) && digits(minor)
    })
}

#[cfg(test)]
mod tests {
    use super::model;

    #[test]
    fn only_real_models_are_told() {
        let android =
            |inner: &str| model(&format!("Mozilla/5.0 (Linux; {inner}) AppleWebKit/537.36"));
        for (inner, expected) in [
            ("Android 14; SM-S918B", Some("SM-S918B")),
            ("Android 13; Pixel 7 Build/TQ3A.230805.001; wv", Some("Pixel 7")),
            ("U; Android 12; en-us; M2102J20SG Build/SKQ1", Some("M2102J20SG")),
            ("U; Android 14; en; SM-A546B; Build/UP1A.231005.007", Some("SM-A546B")),
            ("U; Android 14; fil", None),
            ("U; Android 14; es-419; Build/UP1A", None),
            ("Android 14; zh_Hans_CN; htc_jewel", Some("htc_jewel")),
            ("Android 12; AAOS; Polestar 2", Some("Polestar 2")),
            ("Android 12; moto g(60)", Some("moto g(60)")),
            ("Android 11; Redmi Note 8 (2021) Build/RP1A", Some("Redmi Note 8 (2021)")),
            ("Android 10; K", None),
            ("Android 14; Mobile; rv:131.0", None),
            ("Android 14", None),
            ("Android 14; é", None),
        ] {
            assert_eq!(android(inner).as_deref(), expected, "{inner}");
        }
        let long = "x".repeat(64);
        assert_eq!(android(&format!("Android 14; {long}")).as_deref(), Some(long.as_str()));
        assert_eq!(android(&format!("Android 14; {long}x")), None);
        let app = |inner: &str| model(&format!("Notes/3.2 ({inner}) Alamofire/5.9.1"));
        assert_eq!(app("iPhone15,2; iOS 17.1").as_deref(), Some("iPhone15,2"));
        assert_eq!(app("MacBookPro18,3; macOS 14.5").as_deref(), Some("MacBookPro18,3"));
        assert_eq!(app("iPhone; iOS 17.1"), None);
        assert_eq!(app("iPad; CPU OS 17_1 like Mac OS X"), None);
        assert_eq!(app("iPhone1,; x"), None);
        assert_eq!(model("curl/8.9.1"), None);
        assert_eq!(model("(("), None);
    }
}
