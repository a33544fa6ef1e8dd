//! What is written in the parentheses of an attribute.

use crate::template::{self, Names, Template};
use crate::time::Time;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::token::Paren;
use syn::{Expr, ExprLit, ExprUnary, Ident, Lit, LitStr, Path, Result, Token, UnOp, parenthesized};

/// The most tags of an entry, as in larder.
const MOST_TAGS: usize = 16;

/// The key of a call, or one of its tags.
pub(crate) enum Key {
    Template(Template),
    /// Any `Display`, as it is.
    Is(Expr),
    /// The arguments as JSON after the function's name.
    Arguments {
        name: Option<LitStr>,
    },
}

/// Which error a function under `#[cached]` returns.
pub(crate) enum Errors {
    Clone,
    Wrap,
    By(Expr),
}

/// The argument of a method of the view.
pub(crate) enum Setting {
    Switch,
    Time(Time),
    Number(TokenStream),
}

impl Setting {
    /// The expression of the argument, if it is one.
    fn expression(&self) -> TokenStream {
        match self {
            Self::Time(Time::Is(value)) => value.to_token_stream(),
            Self::Number(number) => number.clone(),
            Self::Switch | Self::Time(_) => TokenStream::new(),
        }
    }
}

/// What a view is for: each needs some of the options only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Call,
    Write,
    Read,
}

impl Purpose {
    fn needs(self, option: &Ident) -> bool {
        let of_writes = ["ttl", "stale_for", "refresh_ahead", "early_refresh", "jitter"];
        // A read renews the life of an entry.
        self == Self::Call
            || option == "idle"
            || (self == Self::Write && of_writes.iter().any(|name| option == name))
    }
}

/// The options of an attribute.
pub(crate) struct Options {
    pub(crate) larder: Path,
    pub(crate) key: Key,
    pub(crate) has_name: Option<Span>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) tags: Vec<Key>,
    pub(crate) cache: Option<Expr>,
    pub(crate) namespace: Option<Expr>,
    /// The options of the view: a method and its argument.
    pub(crate) view: Vec<(Ident, Setting)>,
    pub(crate) only_if: Option<Expr>,
    pub(crate) errors: Option<(Span, Errors)>,
    pub(crate) here: Option<Span>,
    crate_path: Option<Path>,
    /// The names that were given, each once.
    given: Vec<String>,
}

/// The options that an attribute takes.
pub(crate) type Known = &'static [&'static str];

pub(crate) const CACHED: Known = &[
    "key",
    "name",
    "skip",
    "tags",
    "cache",
    "namespace",
    "ttl",
    "idle",
    "stale_for",
    "soft_timeout",
    "hard_timeout",
    "throttle",
    "lease",
    "refresh_ahead",
    "early",
    "jitter",
    "skip_none",
    "only_if",
    "errors",
    "here",
    "crate",
];
pub(crate) const EVICTS: Known = &["tags", "cache", "namespace", "crate"];
pub(crate) const PUTS: Known = &[
    "tags",
    "cache",
    "namespace",
    "ttl",
    "idle",
    "stale_for",
    "refresh_ahead",
    "early",
    "jitter",
    "crate",
];

impl Default for Options {
    fn default() -> Self {
        Self {
            larder: syn::parse_quote!(::larder),
            key: Key::Arguments { name: None },
            has_name: None,
            skip: Vec::new(),
            tags: Vec::new(),
            cache: None,
            namespace: None,
            view: Vec::new(),
            only_if: None,
            errors: None,
            here: None,
            crate_path: None,
            given: Vec::new(),
        }
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            options.take_one(input, CACHED)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        options.finish();
        Ok(options)
    }
}

impl Options {
    /// All options are read: the path of the crate is known.
    pub(crate) fn finish(&mut self) {
        if let Some(path) = self.crate_path.take() {
            self.larder = path;
        }
    }

    /// Whether an option was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|given| given == name)
    }

    /// Reads one option.
    pub(crate) fn take_one(&mut self, input: ParseStream<'_>, known: Known) -> Result<()> {
        if input.peek(LitStr) && known.contains(&"key") {
            return Err(input.error("write `key = \"…\"`"));
        }
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected an option: {}", known.join(", "))));
        }
        let name = input.call(Ident::parse_any)?;
        let text = name.to_string();
        let refuse = |message: String| Err(syn::Error::new(name.span(), message));
        if !known.contains(&text.as_str()) {
            return refuse(format!("unknown option `{text}`; there are: {}", known.join(", ")));
        }
        if self.has(&text) {
            return refuse(format!("`{text}` is given twice"));
        }
        self.given.push(text.clone());
        let (is_word, is_list) =
            (["skip_none", "here"].contains(&&*text), ["skip", "tags"].contains(&&*text));
        if is_word && (input.peek(Token![=]) || input.peek(Paren)) {
            return refuse(format!("`{text}` takes no value: write it, or leave it out"));
        }
        if is_list && !input.peek(Paren) {
            return refuse(format!("`{text}` is a list: `{text}(…)`"));
        }
        match text.as_str() {
            "skip_none" => self.view.push((name, Setting::Switch)),
            "here" => self.here = Some(name.span()),
            "skip" => self.skip = skipped(input)?,
            "tags" => self.tags = tags(&name, input)?,
            _ => {
                input.parse::<Token![=]>()?;
                self.take_value(name, &text, input)?;
            }
        }
        Ok(())
    }

    fn take_value(&mut self, name: Ident, text: &str, input: ParseStream<'_>) -> Result<()> {
        if text == "crate" {
            if input.peek(LitStr) {
                return Err(input.error("`crate` is a path, and no text: `crate = larder`"));
            }
            self.crate_path = Some(Path::parse_mod_style(input)?);
            return Ok(());
        }
        let value = ungrouped(input.parse()?);
        match text {
            "key" => self.key = key(value, Names::Key)?,
            "name" => {
                let Expr::Lit(ExprLit { lit: Lit::Str(prefix), .. }) = value else {
                    return Err(syn::Error::new_spanned(value, "`name` is a text"));
                };
                self.has_name = Some(name.span());
                if matches!(self.key, Key::Arguments { .. }) {
                    self.key = Key::Arguments { name: Some(prefix) };
                }
            }
            "errors" => self.errors = Some((name.span(), errors(value)?)),
            "cache" => self.cache = Some(value),
            "namespace" => self.namespace = Some(value),
            "only_if" => self.only_if = Some(value),
            "refresh_ahead" | "jitter" | "early" => {
                let method = if text == "early" { "early_refresh" } else { text };
                let value = Setting::Number(number(text, value)?);
                self.view.push((Ident::new(method, name.span()), value));
            }
            _ => {
                let time = Time::new(value, text == "ttl")?;
                self.check_time(&name, &time)?;
                self.view.push((name, Setting::Time(time)));
            }
        }
        Ok(())
    }

    /// Refuses what larder would refuse at each call.
    fn check_time(&self, name: &Ident, time: &Time) -> Result<()> {
        if name == "idle" && matches!(time, Time::After(Duration::ZERO)) {
            return Err(syn::Error::new(name.span(), "`idle` is more than zero"));
        }
        let is_window = name == "idle" || name == "stale_for";
        if is_window && self.has("idle") && self.has("stale_for") {
            let message = "`idle` and `stale_for` exclude each other: a hit that renews an entry \
                           would have to write its stale window again";
            return Err(syn::Error::new(name.span(), message));
        }
        Ok(())
    }

    fn settings(&self, purpose: Purpose) -> impl Iterator<Item = &(Ident, Setting)> {
        self.view.iter().filter(move |(option, _)| purpose.needs(option))
    }

    /// The expressions of the view's options.
    pub(crate) fn expressions(&self, purpose: Purpose) -> TokenStream {
        self.settings(purpose).flat_map(|(_, setting)| [setting.expression(), quote!(,)]).collect()
    }

    /// The view of `__larder_cache` with the options.
    pub(crate) fn view_of(&self, is_blocking: bool, purpose: Purpose) -> TokenStream {
        let larder = &self.larder;
        let wrapper = if is_blocking { quote!(CacheWrapper) } else { quote!(AsyncCacheWrapper) };
        let options = self.settings(purpose).map(|(method, setting)| {
            let argument = match setting {
                Setting::Switch => TokenStream::new(),
                Setting::Time(time) => time.code(larder),
                Setting::Number(number) => number.clone(),
            };
            quote!(.#method(#argument))
        });
        quote!(#larder::#wrapper::view(__larder_cache) #(#options)*)
    }
}

fn skipped(input: ParseStream<'_>) -> Result<Vec<Ident>> {
    let content;
    parenthesized!(content in input);
    let names = Punctuated::<Ident, Token![,]>::parse_terminated_with(&content, Ident::parse_any)?;
    Ok(names.into_iter().collect())
}

fn tags(option: &Ident, input: ParseStream<'_>) -> Result<Vec<Key>> {
    let content;
    parenthesized!(content in input);
    let tags = Punctuated::<Expr, Token![,]>::parse_terminated(&content)?;
    if tags.is_empty() {
        let message = "no tag is named: write `tags(\"user:{id}\")`";
        return Err(syn::Error::new(option.span(), message));
    }
    if let Some(tag) = tags.iter().nth(MOST_TAGS) {
        let message = format!("too many tags: there are at most {MOST_TAGS}");
        return Err(syn::Error::new_spanned(tag, message));
    }
    tags.into_iter().map(|tag| key(ungrouped(tag), Names::Tag)).collect()
}

fn errors(value: Expr) -> Result<Errors> {
    match &value {
        Expr::Path(path) if path.path.is_ident("clone") => Ok(Errors::Clone),
        Expr::Path(path) if path.path.is_ident("wrap") => Ok(Errors::Wrap),
        Expr::Lit(other) => {
            let message = "`errors` is `clone`, `wrap`, or a function from `larder::Error`";
            Err(syn::Error::new_spanned(other, message))
        }
        _ => Ok(Errors::By(value)),
    }
}

/// A key or tag: a text is a template.
pub(crate) fn key(value: Expr, names: Names) -> Result<Key> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            template::parse(&text, names).map(Key::Template)
        }
        other => Ok(Key::Is(other)),
    }
}

/// An expression without the invisible groups around the arguments of `macro_rules!`. With them a
/// text would be taken for an expression: the same key for every call.
pub(crate) fn ungrouped(value: Expr) -> Expr {
    match value {
        Expr::Group(group) => ungrouped(*group.expr),
        other => other,
    }
}

/// A part of a life: a number, or an expression. Refuses a number that larder would refuse at each
/// call.
fn number(option: &str, value: Expr) -> Result<TokenStream> {
    let is_negative = matches!(&value, Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }));
    let literal = match &value {
        Expr::Unary(ExprUnary { expr, .. }) if is_negative => &**expr,
        other => other,
    };
    let number: f64 = match literal {
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => number.base10_parse()?,
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse()?,
        Expr::Lit(other) => return Err(syn::Error::new_spanned(other, "not a number")),
        _ => return Ok(quote!(#value)),
    };
    let refused = match option {
        "refresh_ahead" if is_negative || number <= 0.0 || number > 1.0 => {
            "`refresh_ahead` is a part of the life of an entry: more than 0, and 1 at most"
        }
        _ if is_negative && number > 0.0 => "a number below 0 has no meaning here",
        _ => return Ok(quote!(#number)),
    };
    Err(syn::Error::new_spanned(value, refused))
}
