//! Real user agents of 2024 to 2026 and hostile ones, with the devices that a reader would name.

use std::collections::BTreeSet;

use super::{DeviceType, derive};

const TABLE: &str = include_str!("user_agents.tsv");

#[test]
fn user_agents_tell_what_a_person_would_say() {
    let mut wrong = Vec::new();
    let mut kinds = BTreeSet::new();
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    for row in rows.clone() {
        let columns: Vec<&str> = row.split('\t').collect();
        let (kind, os, browser, user_agent, model) = match columns[..] {
            [kind, os, browser, user_agent] => (kind, os, browser, user_agent, ""),
            [kind, os, browser, user_agent, model] => (kind, os, browser, user_agent, model),
            _ => panic!("not four or five columns: {row}"),
        };
        let found = derive(user_agent);
        let found_model = found.model.unwrap_or_default();
        let found_kind = format!("{:?}", found.kind).to_uppercase();
        let (found_os, found_browser) =
            (found.os.unwrap_or_default(), found.browser.unwrap_or_default());
        let found = (&*found_kind, &*found_os, &*found_browser, &*found_model);
        let expected = (kind, os, browser, model);
        if found != expected {
            wrong.push(format!("{user_agent}\n  {found:?}, not {expected:?}"));
        }
        kinds.insert(kind);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows.count() >= 60);
    assert_eq!(kinds.len(), 9, "every type occurs");
}

#[test]
fn nonsense_is_nothing() {
    let unknown = ["", " ", "/", "Mozilla/", "///1/2/3", "(;;;)", "\u{202e}\u{202d}"];
    let long = ["(", ")", "/", " ", ";", "\u{202e}", "é", "😀"].map(|unit| unit.repeat(1024));
    for text in unknown.into_iter().chain(long.iter().map(String::as_str)) {
        let found = derive(text);
        let shown = &text.chars().take(8).collect::<String>();
        assert_eq!(found.kind, DeviceType::Unspecified, "{shown:?}");
        assert_eq!((found.os, found.browser), (None, None), "{shown:?}");
    }
}

#[test]
fn what_is_shown_is_short_and_plain() {
    let repeated = [
        "Android 10; ",
        "Chrome/131.0 ",
        "bot",
        "Mozilla/5.0 (iPhone; ",
        "Windows NT ",
        "1.",
        "\u{130}/1",
    ];
    let hostile = repeated.map(|unit| unit.chars().cycle().take(1024).collect::<String>());
    let spoofs = [
        "<script>alert(1)</script>/1.0 (iPhone; iOS 18.1)",
        "Chrome/9999999999999999999999 Safari/1",
        "App\u{202e}ppA/1.0",
        "Mozilla/5.0 (Android 99999999999999999999; Mobile) Firefox/1",
    ];
    for text in hostile.iter().map(String::as_str).chain(spoofs) {
        let found = derive(text);
        for shown in found.os.into_iter().chain(found.browser) {
            assert!(shown.chars().count() <= 64, "{shown}");
            assert!(!shown.contains(['<', '/', '\u{202e}', '\'']), "{shown}");
        }
    }
}
