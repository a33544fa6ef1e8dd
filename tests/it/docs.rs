//! The documents are in step with the code they speak of.

use larder::{AsyncCacheWrapper, ErrorKind};

#[path = "../../examples/custom_adapter.rs"]
#[allow(dead_code, reason = "an example is a program of its own")]
mod custom_adapter;

#[cfg(feature = "testing")]
larder::testing::conformance!(custom_adapter_example, custom_adapter::MapStore::default());

const README: &str = include_str!("../../README.md");
const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const CARGO: &str = include_str!("../../Cargo.toml");
const QUICKSTART: &str = include_str!("../../examples/quickstart.rs");

#[test]
fn the_quick_start_is_the_example() {
    let blocks: Vec<&str> =
        README.split("```rust\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    // The first is the call that people come for; what follows is the quick start.
    for block in &blocks[1..] {
        let mut example = QUICKSTART.lines().map(str::trim);
        let shown: Vec<_> = block
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("cached().") || line.contains("adapter_set("))
            .collect();
        assert!(shown.len() > 2, "{shown:?}");
        for line in shown {
            assert!(
                example.any(|printed| printed == line),
                "README.md shows what examples/quickstart.rs does not do, or not in this order: {line}"
            );
        }
    }
}

/// The message that refuses an unknown parameter names the known ones.
#[test]
fn every_parameter_is_documented_and_no_other() {
    for (kind, url) in [
        ("memory", "memory:"),
        ("redis", "redis://"),
        ("memcached", "memcached://a"),
        ("sqlite", "sqlite:a"),
    ] {
        let error = AsyncCacheWrapper::new(format!("{url}?no_such=1")).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.to_string();
        let Some((_, known)) = message.rsplit_once("takes: ") else {
            assert!(message.contains("needs the feature"), "{message}");
            continue;
        };
        let mut known: Vec<&str> = known.split(", ").collect();
        let mut documented =
            [rows(section("known to all four")), rows(section(&format!("### {kind}\n")))].concat();
        known.sort_unstable();
        documented.sort_unstable();
        assert_eq!(known, documented, "the parameters of {kind} in docs/configuration.md");
    }
}

#[test]
fn every_name_is_documented() {
    for wrong in ["no such name", "nosuchscheme:"] {
        let message = AsyncCacheWrapper::new(wrong).expect_err("refused").to_string();
        let (_, known) = message.rsplit_once("there are: ").expect("it says what there is");
        let names = section("## Names");
        for name in known.split(", ") {
            assert!(
                names.contains(&format!("`{name}`")),
                "docs/configuration.md leaves out `{name}`"
            );
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let (_, dependencies) = CARGO.split_once("\n[dependencies]\n").expect("the section");
    let (dependencies, _) =
        dependencies.split_once("\n[dev-dependencies]\n").expect("the section after them");
    let (_, reasons) = ARCHITECTURE.split_once("## Dependencies").expect("the section");
    let reasons = rows(reasons);
    let names = dependencies
        .lines()
        .filter(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name);
    let mut count = 0;
    for name in names {
        assert!(reasons.contains(&name), "ARCHITECTURE.md has no row for `{name}`");
        count += 1;
    }
    assert!(count > 15, "{count} dependencies were found");
}

#[test]
fn the_readme_names_the_oldest_rust() {
    let (_, version) = CARGO.split_once("rust-version = \"").expect("the line");
    let version = version.split('"').next().expect("the number");
    assert!(README.contains(&format!("Rust {version} or later")), "{version}");
}

/// From where `from` is said to the next heading.
fn section(from: &str) -> &'static str {
    let (_, section) = CONFIGURATION
        .split_once(from)
        .unwrap_or_else(|| panic!("docs/configuration.md says nowhere `{from}`"));
    section.split("\n#").next().unwrap_or(section)
}

/// The names in the first column of a table.
fn rows(section: &str) -> Vec<&str> {
    let cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(" |").next());
    cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `")).collect()
}
