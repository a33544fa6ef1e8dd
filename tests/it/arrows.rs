//! The imports of the sources: every arrow points to a lower floor of `ARCHITECTURE.md`, or stays
//! in its room, and no files import one another in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, iter};

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// A module of the crate, as the names on the way to it. The crate itself is empty.
type Module = Vec<String>;
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn imports_point_down_and_not_in_circles() {
    let sources = sources();
    let arrows = arrows(&sources);
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 300, "the imports are not found");
    let floors = floors();
    let wrong: Vec<String> = arrows
        .iter()
        .flat_map(|(from, all)| iter::repeat(from).zip(all))
        .filter(|(from, to)| from[0] != to[0] && floor(&floors, from) <= floor(&floors, to))
        .map(|(from, to)| format!("{} imports {}", from.join("::"), to.join("::")))
        .collect();
    assert!(wrong.is_empty(), "not downwards:\n{}", wrong.join("\n"));
    let circles: Vec<String> = arrows
        .keys()
        .filter(|module| reaches(&arrows, module, module))
        .map(|module| module.join("::"))
        .collect();
    assert!(circles.is_empty(), "in a circle:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec!["room".to_owned(), name.to_owned()];
    let [a, b, c] = ["a", "b", "c"].map(module);
    let to = |module: &Module| BTreeSet::from([module.clone()]);
    let mut arrows = Arrows::from([(a.clone(), to(&b)), (b, to(&c)), (c.clone(), to(&a))]);
    assert!(reaches(&arrows, &a, &a));
    arrows.remove(&c);
    assert!(!reaches(&arrows, &a, &a));
}

/// The sources by module, without those that only tests have.
fn sources() -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let name = entry.strip_prefix(&root).expect("below").with_extension("");
            let mut module: Module =
                name.iter().map(|part| part.to_str().expect("text").to_owned()).collect();
            module.retain(|part| part != "mod" && part != "lib");
            if !module.iter().any(|part| part == "tests" || part == "schedules") {
                sources.insert(module, fs::read_to_string(&entry).expect("a source"));
            }
        }
    }
    sources
}

fn arrows(sources: &BTreeMap<Module, String>) -> Arrows {
    let mut arrows = Arrows::new();
    for (from, source) in sources.iter().filter(|(from, _)| !from.is_empty()) {
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for path in imports(code) {
            let Some(to) = resolve(sources, from, &path) else { continue };
            // A module and what is inside of it are one thing.
            if !to.starts_with(from) && !from.starts_with(&to) {
                arrows.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    arrows
}

/// Every path of the `use` declarations, `a::{b, c}` taken apart.
fn imports(code: &str) -> Vec<String> {
    let lines: Vec<&str> =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = lines.join(" ");
    code.split(';')
        .filter_map(|statement| {
            let (before, tree) = statement.rsplit_once("use ")?;
            let is_declaration = before.trim().is_empty()
                || before.trim_end().ends_with([')', ']', '}'])
                || before.trim_end().ends_with("pub");
            is_declaration.then(|| taken_apart(tree.trim()))
        })
        .flatten()
        .collect()
}

fn taken_apart(tree: &str) -> Vec<String> {
    let Some((base, list)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let list = list.strip_suffix('}').unwrap_or(list);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in list.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            letter => parts.last_mut().expect("one at least").push(letter),
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(taken_apart).map(|part| format!("{base}{part}")).collect()
}

/// The file that defines what `path` names; `None` for what is not the crate's.
fn resolve(sources: &BTreeMap<Module, String>, from: &Module, path: &str) -> Option<Module> {
    let mut names = path.split("::").map(str::trim).peekable();
    let mut module = match names.peek()? {
        &"crate" => Vec::new(),
        &"super" | &"self" => from.clone(),
        first if sources.contains_key(&[from.as_slice(), &[(*first).to_owned()]].concat()) => {
            from.clone()
        }
        _ => return None,
    };
    for name in names {
        match name {
            "crate" | "self" => {}
            "super" => drop(module.pop()),
            name => {
                module.push(name.to_owned());
                if !sources.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
        }
    }
    Some(module)
}

/// Which rooms are on which floor: the drawing at the head of `ARCHITECTURE.md`.
fn floors() -> BTreeMap<String, u32> {
    let (_, drawing) = ARCHITECTURE.split_once("```text\n").expect("the drawing");
    let (drawing, _) = drawing.split_once("```").expect("its end");
    let mut floors = BTreeMap::new();
    for line in drawing.lines() {
        let mut words = line.split_whitespace();
        let Some(Ok(floor)) = words.next().map(str::parse) else { continue };
        for room in words.filter_map(|word| word.strip_suffix('/').or(word.strip_suffix(".rs"))) {
            floors.insert(room.to_owned(), floor);
        }
    }
    floors
}

fn floor(floors: &BTreeMap<String, u32>, module: &Module) -> u32 {
    let room = module.first().map_or("lib", String::as_str);
    *floors.get(room).unwrap_or_else(|| panic!("ARCHITECTURE.md does not draw {room}"))
}

fn reaches(arrows: &Arrows, from: &Module, to: &Module) -> bool {
    let (mut seen, mut ahead) = (BTreeSet::new(), vec![from]);
    while let Some(module) = ahead.pop() {
        for next in arrows.get(module).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                ahead.push(next);
            }
        }
    }
    false
}
