//! Scripted scenarios (`tests/scenarios/`): each labelled attack is found, and nothing else.

mod habits;
mod month;
mod replay;
mod score;
mod script;
mod world;

use month::Step;
use score::{Score, score};
use script::Script;

/// The rules, each with the least precision and recall that it must reach over the month with the default settings.
/// Labels of other rules are ignored.
const RULES: [(&str, f64, f64); 11] = [
    ("failed_logins", 1.0, 0.75),
    ("failed_logins_network", 0.66, 0.66),
    ("impossible_travel", 0.7, 0.9),
    ("new_country", 0.5, 0.9),
    ("rapid_creation", 0.75, 0.75),
    ("new_device", 0.6, 1.0),
    ("session_hijack", 1.0, 1.0),
    ("simultaneous_countries", 1.0, 1.0),
    ("dormant_account", 0.5, 1.0),
    ("refused_tokens", 1.0, 0.75),
    ("limit_conflicts", 1.0, 1.0),
];
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");

fn read(name: &str) -> (Script, Vec<Step>) {
    let text = std::fs::read_to_string(format!("{DIRECTORY}/{name}")).expect("a scenario");
    let script = script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let steps = month::steps(&script).unwrap_or_else(|error| panic!("{name}: {error}"));
    (script, steps)
}

fn judge(script: &Script, found: &[score::Found]) -> Score {
    let score = score(&RULES.map(|(rule, ..)| rule), &script.labels, found);
    println!("{score}");
    assert!(score.wrong.is_empty(), "{}", score.wrong.join("\n"));
    score
}

/// Asserts that the month covers what it is for, and that its rules reach their precision and recall.
fn judge_month(script: &Script, steps: &[Step], found: &[score::Found]) {
    println!("{} people, {} steps", script.people.len(), steps.len());
    assert_eq!((script.people.len(), script.days), (200, 30));
    assert!(steps.len() >= 10_000);
    let score = judge(script, found);
    for (rule, precision, recall) in RULES {
        let tally = &score.rules[rule];
        assert!(tally.attacks > 0, "{rule} has nothing to find");
        assert!(tally.precision() >= precision, "{rule}: {tally:?}");
        assert!(tally.recall() >= recall, "{rule}: {tally:?}");
    }
}

#[test]
fn the_rules_find_in_the_month_what_is_labelled_and_nothing_else() {
    let (script, steps) = read("month.txt");
    judge_month(&script, &steps, &world::replay(&script, &steps));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_finds_in_the_month_what_is_labelled_and_nothing_else() {
    let (script, steps) = read("month.txt");
    judge_month(&script, &steps, &replay::replay(&script, &steps).await);
}

#[test]
fn habits_raise_no_alert_for_any_seed() {
    let (mut script, _) = read("month.txt");
    (script.scenes, script.trips, script.labels) = Default::default();
    for seed in 1..=10 {
        script.seed = seed;
        let steps = month::steps(&script).expect("a month");
        judge(&script, &world::replay(&script, &steps));
    }
}

#[test]
fn every_other_scenario_is_as_it_says() {
    let files = std::fs::read_dir(DIRECTORY).expect("scenarios").map(|file| file.expect("a file"));
    let names: Vec<String> =
        files.map(|file| file.file_name().into_string().expect("a name")).collect();
    let others = names.iter().filter(|name| name.ends_with(".txt") && *name != "month.txt");
    assert!(others.clone().count() > 0);
    for name in others {
        println!("{name}");
        let (script, steps) = read(name);
        judge(&script, &world::replay(&script, &steps));
    }
}

#[test]
fn a_month_is_the_same_each_time_and_another_seed_makes_another() {
    let (script, steps) = read("month.txt");
    let shown = |steps: &[Step]| -> Vec<String> {
        steps.iter().map(|step| format!("{} {:?} {}", step.at, step.user, step.ip)).collect()
    };
    assert_eq!(shown(&steps), shown(&month::steps(&script).expect("a month")));
    let other = Script { seed: script.seed + 1, ..script };
    assert_ne!(shown(&steps), shown(&month::steps(&other).expect("a month")));
}

#[test]
fn a_line_that_makes_no_sense_is_named() {
    let head = "start 2026-03-02\nplace berlin DE 52.52 13.405\nnetwork home berlin 10.0.0.0/8\n\
                device phone Phone/1.0\n";
    for (line, error) in [
        ("person ada", "`person` begins no line"),
        ("place berlin DE 52.52", "degrees east is missing"),
        ("place berlin DE north 13.4", "`north` is not degrees north"),
        ("network office paris 10.0.0.0/8", "no place paris"),
        ("network office berlin 10.0.0.0/8 hidden", "`hidden` has no place here"),
        ("people ada 1 home=home", "people need devices"),
        ("people ada 1 home=home devices=tablet", "no device tablet"),
        ("people ada 1 home=home devices=phone colour=red", "`colour` has no place here"),
        ("at 1 25h ada login phone home", "`25h` is no time such as 09:30"),
        ("at 1 09:00 ada sing phone home", "nobody can sing"),
        ("at 1 09:00 ada login phone office", "no network office"),
        ("at 1 09:00 ada login phone home attack=luck", "no rule luck"),
        ("at 1 09:00 ada login phone home every=5", "`5` is no length such as 20s, 5m or 2h"),
        ("trip ada 1 09:00 hours=2", "a trip needs to="),
    ] {
        let found = script::parse(&format!("{head}{line}\n")).err();
        assert_eq!(found, Some(format!("line 5: {error}")), "{line}");
    }
    let nobody = format!("{head}at 1 09:00 ada refresh phone home\n");
    let script = script::parse(&nobody).expect("a scenario");
    assert!(month::steps(&script).is_err(), "there is no session to refresh");
}

#[test]
fn what_is_not_as_labelled_is_named() {
    let head = "start 2026-03-02\nplace berlin DE 52.52 13.405\nplace paris FR 48.85 2.35\n\
                network home berlin 10.0.0.0/8\nnetwork there paris 192.0.2.0/24\n\
                device phone Phone/1.0\nat 1 09:00 ada login phone home\n";
    for (line, wrong) in [
        ("at 9 09:00 ada login phone there attack=new_country", None),
        ("at 9 09:00 ada login phone there", Some("new_country of Some(\"ada\") at 2026")),
        ("at 9 09:00 ada login phone there missed=new_country", Some("line 8: new_country")),
        ("at 9 09:00 ada login phone home attack=new_country", Some("line 8: new_country")),
        ("at 9 09:00 ada login phone home false=new_country", Some("line 8: new_country")),
    ] {
        let script = script::parse(&format!("{head}{line}\n")).expect("a scenario");
        let steps = month::steps(&script).expect("a scenario");
        let found = world::replay(&script, &steps);
        let score = score(&["new_country"], &script.labels, &found);
        assert_eq!(score.wrong.len(), usize::from(wrong.is_some()), "{line}");
        assert!(score.wrong.iter().zip(wrong).all(|(is, start)| is.starts_with(start)), "{line}");
    }
}
