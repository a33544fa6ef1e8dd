//! What larder's dependencies must keep to, where `cargo deny` is not installed: `deny.toml` says
//! what that is.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const RULES: &str = include_str!("../../deny.toml");
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The packages that larder is compiled from on this machine, with all features and without what
/// only tests need.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .args(["--filter-platform", &host()])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo gives JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();

    let edges: BTreeMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let needed = list(&node["deps"]).into_iter().filter(|dependency| {
                list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev")
            });
            (text(&node["id"]), needed.map(|dependency| text(&dependency["pkg"])).collect())
        })
        .collect();
    let all = list(&metadata["packages"]);
    let own = all.iter().find(|package| package["name"] == "larder").expect("larder");
    let (mut seen, mut next) = (BTreeSet::new(), edges[&text(&own["id"])].clone());
    while let Some(id) = next.pop() {
        if seen.insert(id.clone()) {
            next.extend(edges[&id].iter().cloned());
        }
    }
    all.into_iter().filter(|package| seen.contains(&text(&package["id"]))).collect()
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = output.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

/// The texts in quotes of one list in the rules.
fn rule(name: &str) -> Vec<&'static str> {
    let (_, list) = RULES.split_once(&format!("\n{name} = [")).expect("the list is there");
    let (list, _) = list.split_once("\n]").expect("the list ends");
    list.split('"').skip(1).step_by(2).collect()
}

/// Whether what a crate says about its licence can be kept to with the licences that are allowed.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed)
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn either(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut is_allowed = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        is_allowed |= both(words, allowed);
    }
    is_allowed
}

fn both(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut is_allowed = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_allowed &= one(words, allowed);
    }
    is_allowed
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let is_allowed = either(words, allowed);
        words.next_if_eq(&")");
        return is_allowed;
    }
    let mut licence = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence.as_str())
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(GPL-3.0 OR MIT) AND Apache-2.0"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    assert!(is_allowed("GPL-2.0 OR Apache-2.0 WITH LLVM-exception", &allowed));
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND ISC", "MIT WITH X"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn licences_sources_and_duplicates_are_those_that_are_allowed() {
    let (allowed, skipped) = (rule("allow"), rule("skip"));
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a name").to_owned();
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence, &allowed), "{name} is under `{licence}`");
        // The attribute macros are in this repository: a crate of their own has no other reason than the language's.
        if name == "larder-macros" {
            assert_eq!(package["version"], env!("CARGO_PKG_VERSION"), "{name}");
            continue;
        }
        assert_eq!(package["source"], REGISTRY, "{name}");
        let version = package["version"].as_str().expect("a version");
        let is_skipped = skipped.iter().any(|skipped| {
            skipped.split_once('@').is_some_and(|(skipped, old)| {
                skipped == name && version.starts_with(&format!("{old}."))
            })
        });
        if !is_skipped {
            versions.entry(name).or_default().push(version.to_owned());
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "more than once, without a reason in deny.toml: {versions:?}");
}
