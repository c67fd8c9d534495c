//! docs/grading.md against the program: its checks, its options, its formats.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::Value;
use vpnlab::cli::Cli;
use vpnlab::grade::checks::CHECKS;
use vpnlab::grade::rubric::Rubric;
use vpnlab::grade::submission::Role;

const PAGE: &str = include_str!("../docs/grading.md");

#[test]
fn the_table_has_every_check_in_its_order_with_program_and_title() {
    let is_row = |line: &&str| line.starts_with("| `step") && line[..14].contains('.');
    let rows: Vec<&str> = PAGE.lines().filter(is_row).collect();
    assert_eq!(rows.len(), CHECKS.len());
    for (row, (_, role, id, title)) in rows.iter().zip(CHECKS) {
        let begin = format!("| `{id}` | `{}` | {title} | ", role.file());
        assert!(row.starts_with(&begin), "it should begin with {begin}\n{row}");
    }
}

#[test]
fn every_option_is_there_and_none_that_there_is_not() {
    let command = Cli::command();
    let grade = command.find_subcommand("grade").unwrap();
    let shown = grade.get_arguments().filter(|argument| !argument.is_hide_set());
    let options: BTreeSet<&str> = shown.filter_map(|argument| argument.get_long()).collect();
    let section = PAGE.split("\n## Options\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `--"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap()).collect::<Vec<_>>().join(" ");
    let told: BTreeSet<&str> = cells
        .split(|character: char| !character.is_ascii_lowercase() && character != '-')
        .filter_map(|word| word.strip_prefix("--"))
        .collect();
    assert_eq!(told, options);
}

/// The names of all fields of a JSON value.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| fields(value, found)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            fields(value, found);
        }),
        _ => {}
    }
}

#[test]
fn every_field_of_the_json_is_described() {
    let mut names = BTreeSet::new();
    fields(&serde_json::from_str(include_str!("fixtures/grades/broken.json")).unwrap(), &mut names);
    assert!(["ladders", "milliseconds", "truncated", "facts"].iter().all(|name| names.contains(*name)), "{names:?}");
    let section = PAGE.split("\n## Reports\n").nth(1).unwrap().split("**`--csv`**").next().unwrap();
    for name in names {
        assert!(section.contains(&format!("`{name}`")), "{name} is not described");
    }
    for status in ["pass", "fail", "not-run", "error"] {
        assert!(section.contains(&format!("`{status}`")), "{status}");
    }
}

#[test]
fn the_examples_of_formats_are_right() {
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let rubric = blocks.iter().find(|block| block.contains("[points]")).unwrap();
    let rubric = Rubric::parse(rubric).unwrap();
    assert_eq!((rubric.of("step1.ping-replies"), rubric.of("step1.ping-sizes")), (5.0, 0.0));
    let manifest: toml::Table = blocks.iter().find(|block| block.contains("[programs]")).unwrap().parse().unwrap();
    let keys: BTreeSet<&str> = manifest["programs"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, Role::ALL.map(Role::key).into_iter().collect());
}

#[test]
fn links_within_the_page_lead_somewhere() {
    let heading = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        text.chars().filter(|it| it.is_alphanumeric() || *it == ' ' || *it == '-').collect::<String>().replace(' ', "-")
    };
    let headings: BTreeSet<String> = PAGE.lines().filter(|line| line.starts_with("## ")).map(heading).collect();
    for link in PAGE.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(headings.contains(link), "{link}: {headings:?}");
    }
}
