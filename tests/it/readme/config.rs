//! The configuration table matches the command line's options.

use clap::{Arg, CommandFactory};
use sessiond::cli::Cli;

const CONFIGURATION: &str = include_str!("../../../docs/CONFIGURATION.md");

#[test]
fn the_configuration_table_is_that_of_the_command_line() {
    let mut table = "| Flag | Variable | Default | Rule |\n|---|---|---|---|\n".to_owned();
    let command = Cli::command();
    for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
        table += &row(arg);
    }
    assert!(table.lines().count() > 10, "found few flags:\n{table}");
    assert!(CONFIGURATION.contains(&table), "docs/CONFIGURATION.md must hold this table:\n{table}");
}

fn row(arg: &Arg) -> String {
    let flag = arg.get_long().expect("every setting is a long flag");
    let variable = arg.get_env().expect("every setting has a variable").to_string_lossy();
    let help = arg.get_help().expect("every setting is described").to_string();
    // A default that depends on the machine is described in the text.
    let (rule, described) = match help.strip_suffix(']').and_then(|h| h.split_once(" [default: ")) {
        Some((rule, default)) => (rule, default.to_owned()),
        None => (help.as_str(), "none".to_owned()),
    };
    let given = arg.get_default_values().first();
    let default = given.map_or(described, |value| format!("`{}`", value.to_string_lossy()));
    let rule = format!("{rule}{}", values(arg)).replace('\\', r"\\").replace('|', r"\|");
    format!("| `--{flag}` | `{variable}` | {default} | {rule} |\n")
}

/// The values of an enum, each with its description, if there is one.
fn values(arg: &Arg) -> String {
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), help.to_string().to_lowercase()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) }
}
