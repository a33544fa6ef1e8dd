//! Keys and tags with holes: `"user:{id}"`.

use proc_macro2::Span;
use syn::{LitStr, Result};

/// A key or tag with holes.
pub(crate) struct Template {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) span: Span,
    names: Names,
}

/// What a template names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Key,
    Tag,
}

impl Names {
    fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tag => "tag",
        }
    }
}

pub(crate) enum Piece {
    Text(String),
    Hole(Hole),
}

/// `{user.id}`: an argument, and the fields and calls after it.
#[derive(Clone)]
pub(crate) struct Hole {
    pub(crate) root: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) written: String,
}

#[derive(Clone)]
pub(crate) enum Step {
    Field(String),
    Index(u32),
    Call(String),
}

impl Template {
    pub(crate) fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Hole(hole) => Some(hole),
            Piece::Text(_) => None,
        })
    }

    /// The characters that stand between holes: they are escaped inside arguments. Empty for one
    /// hole, which needs no escapes.
    pub(crate) fn separators(&self) -> String {
        let mut separators: Vec<char> = Vec::new();
        for window in self.pieces.windows(3) {
            if let [Piece::Hole(_), Piece::Text(text), Piece::Hole(_)] = window {
                separators.extend(text.chars());
            }
        }
        separators.sort_unstable();
        separators.dedup();
        separators.into_iter().collect()
    }

    fn check(&self) -> Result<()> {
        for window in self.pieces.windows(2) {
            if let [Piece::Hole(first), Piece::Hole(second)] = window {
                return Err(self.error(format!(
                    "nothing stands between `{}` and `{}`: two calls could share a {}",
                    first.written,
                    second.written,
                    self.names.word()
                )));
            }
        }
        if self.separators().contains('%') {
            return Err(self.error(
                "`%` cannot stand between two holes: it begins an escape inside arguments".into(),
            ));
        }
        if self.pieces.is_empty() {
            return Err(self.error(format!("a {} must not be empty", self.names.word())));
        }
        Ok(())
    }

    fn error(&self, message: String) -> syn::Error {
        syn::Error::new(self.span, message)
    }
}

/// Reads a template: `{{` and `}}` are braces.
pub(crate) fn parse(literal: &LitStr, names: Names) -> Result<Template> {
    let text = literal.value();
    let fail = |message: String| Err(syn::Error::new(literal.span(), message));
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let mut rest = text.as_str();
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            plain.push(letter);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((hole, after)) = after.split_once('}') else {
                return fail(format!("`{{{after}` is not closed; a brace itself is `{{{{`"));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            match read_hole(hole, names) {
                Ok(hole) => pieces.push(Piece::Hole(hole)),
                Err(message) => return fail(message),
            }
            rest = after;
        } else if letter == '}' {
            return fail("`}` closes nothing; a brace itself is `}}`".to_owned());
        } else {
            plain.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    let template = Template { pieces, span: literal.span(), names };
    template.check()?;
    Ok(template)
}

fn read_hole(text: &str, names: Names) -> std::result::Result<Hole, String> {
    let written = format!("{{{text}}}");
    if text.trim().is_empty() {
        return Err(format!("`{written}` names no argument"));
    }
    if let Some(path) = text.split_once("::").map(|_| text.trim()) {
        return Err(format!(
            "`{written}` is a path, and a hole begins with an argument: in place of the template \
             write `format!(\"…{{}}…\", {path})`"
        ));
    }
    if text.contains(':') {
        let word = names.word();
        return Err(format!(
            "`{written}`: a {word} takes no formats, so that none can lose a part"
        ));
    }
    let mut parts = text.trim().split('.').map(str::trim);
    let root = parts.next().unwrap_or_default().to_owned();
    let wrong =
        || format!("`{written}`: a hole is an argument with fields and calls: `{{a.b.0.get()}}`");
    if !is_name(&root) {
        return Err(wrong());
    }
    let Some(steps) = parts.map(step).collect() else { return Err(wrong()) };
    Ok(Hole { root, steps, written })
}

fn step(part: &str) -> Option<Step> {
    if let Some(call) = part.strip_suffix("()") {
        return is_member(call.trim()).then(|| Step::Call(call.trim().to_owned()));
    }
    if let Ok(index) = part.parse() {
        return Some(Step::Index(index));
    }
    is_member(part).then(|| Step::Field(part.to_owned()))
}

fn is_member(text: &str) -> bool {
    text != "self" && is_name(text)
}

fn is_name(text: &str) -> bool {
    let text = text.strip_prefix("r#").unwrap_or(text);
    text == "self" || syn::parse_str::<syn::Ident>(&format!("r#{text}")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Template> {
        parse(&LitStr::new(text, Span::call_site()), Names::Key)
    }

    fn message(text: &str) -> String {
        match read(text) {
            Ok(_) => panic!("{text} is accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn holes_are_arguments_fields_and_calls() {
        let template = read("a{{b}}:{id}:{self.a.0.c}/{ name.len() }").expect("a template");
        let holes: Vec<&str> = template.holes().map(|hole| hole.root.as_str()).collect();
        assert_eq!(holes, ["id", "self", "name"]);
        assert_eq!(template.separators(), "/:");
        assert!(matches!(&template.pieces[0], Piece::Text(text) if text == "a{b}:"));
        assert_eq!(read("user:{id}!").expect("one hole").separators(), "");
    }

    #[test]
    fn what_is_no_template_is_refused_with_a_reason() {
        for (text, reason) in [
            ("user:{id", "not closed"),
            ("user:id}", "closes nothing"),
            ("{}", "names no argument"),
            ("{id:?}", "takes no formats"),
            ("{T::NAME}", "a hole begins with an argument"),
            ("{ Self::NAME.len() }", "a hole begins with an argument"),
            ("{id.get(1)}", "a hole is an argument"),
            ("{id + 1}", "a hole is an argument"),
            ("{id.self}", "a hole is an argument"),
            ("{id.self()}", "a hole is an argument"),
            ("{a}{b}", "nothing stands between"),
            ("{a}%{b}", "begins an escape"),
            ("", "must not be empty"),
        ] {
            assert!(message(text).contains(reason), "{text}: {}", message(text));
        }
    }
}
