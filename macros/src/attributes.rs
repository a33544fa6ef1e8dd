//! Where the attributes of a function go: some describe the function that people see, some work on
//! its body.

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
    pub(crate) working: Option<Attribute>,
    /// For everything that is generated: without it, half of it would be missing.
    pub(crate) conditions: Vec<Attribute>,
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
            match place(attribute) {
                Place::Outer => sorted.outer.push(attribute.to_token_stream()),
                Place::Body => {
                    sorted.body.push(attribute.to_token_stream());
                    sorted.working.get_or_insert_with(|| attribute.clone());
                }
                Place::Condition => sorted.conditions.push(attribute.clone()),
                Place::Level => {
                    sorted.outer.push(attribute.to_token_stream());
                    sorted.body.push(attribute.to_token_stream());
                }
                Place::Expect => {
                    if let Meta::List(list) = &attribute.meta {
                        let lints = &list.tokens;
                        sorted.outer.push(quote!(#[allow(#lints)]));
                        sorted.body.push(quote!(#[allow(#lints)]));
                    }
                }
            }
        }
        sorted
    }
}

fn place(attribute: &Attribute) -> Place {
    if !attribute.path().is_ident("cfg_attr") {
        return place_of(attribute.path());
    }
    // `cfg_attr(condition, attribute, …)` goes where its attribute goes.
    let inner = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    match inner.ok().as_ref().and_then(|metas| metas.iter().nth(1)) {
        Some(meta) => match place_of(meta.path()) {
            Place::Expect => Place::Body,
            place => place,
        },
        None => Place::Outer,
    }
}

fn place_of(path: &Path) -> Place {
    let Some(name) = path.get_ident().map(ToString::to_string) else {
        // Those of tools do nothing to a function.
        let tool = path.segments.first().map(|tool| tool.ident.to_string());
        let is_tool =
            tool.is_some_and(|tool| ["rustfmt", "clippy", "diagnostic"].contains(&&*tool));
        return if is_tool { Place::Outer } else { Place::Body };
    };
    match name.as_str() {
        "doc" | "must_use" | "deprecated" | "inline" | "cold" => Place::Outer,
        "cfg" => Place::Condition,
        "allow" | "warn" | "deny" => Place::Level,
        "expect" => Place::Expect,
        _ => Place::Body,
    }
}
