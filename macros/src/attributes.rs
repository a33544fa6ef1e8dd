//! Where the attributes of a function go: some describe the function that people see, some work on
//! its body.

use crate::argument::contains;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Path, Token};

/// The attributes of a function, by where they go.
#[derive(Default)]
pub(crate) struct Attributes {
    /// For the function that people see.
    pub(crate) outer: Vec<TokenStream>,
    /// For the function with the body.
    pub(crate) body: Vec<TokenStream>,
    /// The first of those that work on the function with the body.
    pub(crate) working: Option<Path>,
    /// For everything that is generated: without it, half of it would be missing.
    pub(crate) conditions: Vec<TokenStream>,
    /// Whether the function is left out of its documentation, and what stands beside it, too.
    pub(crate) is_hidden: bool,
}

enum Place {
    Outer,
    Body,
    Condition,
    /// Levels of lints: the body is written by the user, and the signature is shown twice.
    Level,
    /// Some lints do not look at generated functions, and would leave an `expect` unmet: it
    /// becomes an `allow`.
    Expect,
}

impl Attributes {
    pub(crate) fn new(attributes: &[Attribute]) -> Self {
        let mut sorted = Self::default();
        for attribute in attributes {
            match conditional(attribute) {
                Some((condition, metas)) => metas.iter().for_each(|meta| {
                    sorted.take(meta, |meta| quote!(#[cfg_attr(#condition, #meta)]));
                }),
                None => sorted.take(&attribute.meta, |meta| quote!(#[#meta])),
            }
        }
        sorted
    }

    fn take(&mut self, meta: &Meta, written: impl Fn(&TokenStream) -> TokenStream) {
        let tokens = written(&meta.to_token_stream());
        match place(meta.path()) {
            Place::Outer => {
                self.is_hidden |= meta.path().is_ident("doc")
                    && matches!(meta, Meta::List(list) if contains(&list.tokens, "hidden"));
                self.outer.push(tokens);
            }
            Place::Body => {
                self.body.push(tokens);
                self.working.get_or_insert_with(|| meta.path().clone());
            }
            Place::Condition => self.conditions.push(tokens),
            Place::Level => {
                self.outer.push(tokens.clone());
                self.body.push(tokens);
            }
            Place::Expect => {
                if let Meta::List(list) = meta {
                    let lints = &list.tokens;
                    let tokens = written(&quote!(allow(#lints)));
                    self.outer.push(tokens.clone());
                    self.body.push(tokens);
                }
            }
        }
    }
}

/// `cfg_attr(condition, attribute, …)`, whose attributes go to places of their own.
fn conditional(attribute: &Attribute) -> Option<(Meta, Vec<Meta>)> {
    if !attribute.path().is_ident("cfg_attr") {
        return None;
    }
    let metas = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let mut metas = metas.into_iter();
    metas.next().map(|condition| (condition, metas.collect()))
}

fn place(path: &Path) -> Place {
    let Some(name) = path.get_ident().map(ToString::to_string) else {
        // Those of tools do nothing to a function.
        let tool = path.segments.first().map(|tool| tool.ident.to_string());
        let is_tool =
            tool.is_some_and(|tool| ["rustfmt", "clippy", "diagnostic"].contains(&&*tool));
        return if is_tool { Place::Outer } else { Place::Body };
    };
    match name.as_str() {
        "doc" | "must_use" | "deprecated" | "inline" | "cold" => Place::Outer,
        // The symbol is that of the function that people call: `#[unsafe(no_mangle)]`.
        "unsafe" | "no_mangle" | "export_name" | "link_section" => Place::Outer,
        "cfg" => Place::Condition,
        "allow" | "warn" | "deny" => Place::Level,
        "expect" => Place::Expect,
        _ => Place::Body,
    }
}
