//! The key of a call: which arguments it contains, and the code that writes it.

use crate::argument::{self, Argument};
use crate::function::Function;
use crate::options::{Key, Options};
use crate::template::{Hole, Piece, Step, Template};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Index, Path, Result};

/// Refuses a key that two different calls could share.
pub(crate) fn check(options: &Options, function: &Function) -> Result<()> {
    if let Some(span) = options.has_name
        && options.has("key")
    {
        return Err(syn::Error::new(span, "`name` is for functions without `key`"));
    }
    if let Key::Template(template) = &options.key {
        check_holes(template, &function.arguments, &[])?;
    }
    check_skip(options, &function.arguments)?;
    if !options.has("key") && !function.signature.generics.params.is_empty() {
        let is_typed = function.signature.generics.type_params().next().is_some();
        if is_typed {
            return Err(syn::Error::new_spanned(
                &function.signature.generics,
                "a generic function needs `key`: without one, its types would share their entries",
            ));
        }
    }
    function.arguments.iter().try_for_each(|argument| check_argument(argument, options))
}

/// Each hole names an argument, or one of `more`.
pub(crate) fn check_holes(template: &Template, all: &[Argument], more: &[&str]) -> Result<()> {
    for hole in template.holes() {
        if more.contains(&hole.root.as_str()) || bound(all, &hole.root).is_some() {
            continue;
        }
        let message = if hole.root == "self" {
            "there is no `self` here".to_owned()
        } else {
            let known: Vec<String> =
                known(all).chain(more.iter().map(|&name| name.to_owned())).collect();
            match known.is_empty() {
                true => format!("`{}` is not an argument; there are none", hole.root),
                false => {
                    format!("`{}` is not an argument; there are: {}", hole.root, known.join(", "))
                }
            }
        };
        return Err(syn::Error::new(template.span, message));
    }
    Ok(())
}

fn known(all: &[Argument]) -> impl Iterator<Item = String> {
    all.iter().flat_map(|argument| &argument.bound).map(|name| name.unraw().to_string())
}

/// The name in the function that a hole means.
fn bound<'a>(all: &'a [Argument], root: &str) -> Option<&'a Ident> {
    let root = root.strip_prefix("r#").unwrap_or(root);
    all.iter().flat_map(|argument| &argument.bound).find(|name| name.unraw() == root)
}

fn check_skip(options: &Options, all: &[Argument]) -> Result<()> {
    for skipped in &options.skip {
        if bound(all, &skipped.unraw().to_string()).is_none() {
            let known: Vec<String> = known(all).collect();
            let message =
                format!("`{skipped}` is not an argument; there are: {}", known.join(", "));
            return Err(syn::Error::new(skipped.span(), message));
        }
    }
    Ok(())
}

/// Every argument decides about the key, or is skipped.
fn check_argument(argument: &Argument, options: &Options) -> Result<()> {
    if matches!(options.key, Key::Arguments { .. }) && !argument.is_self {
        return Ok(());
    }
    for name in argument.read_names() {
        if is_skipped(options, name) || is_used(options, name) {
            continue;
        }
        let message = match (argument.is_self, &options.key) {
            (true, Key::Arguments { .. }) => {
                "a method without `key` says `skip(self)`: `self` is not part of its key".to_owned()
            }
            (true, _) => "`self` is not in the key: two objects would share their entries; \
                 write `{self.field}` in the key, `cache = self.field`, or `skip(self)`"
                .to_owned(),
            (false, _) => {
                let name = name.unraw();
                format!("`{name}` is not in the key: write `{{{name}}}` in it, or `skip({name})`")
            }
        };
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(())
}

fn is_skipped(options: &Options, name: &Ident) -> bool {
    options.skip.iter().any(|skipped| skipped.unraw() == name.unraw())
}

/// Whether an argument decides which entry a call has.
pub(crate) fn is_used(options: &Options, name: &Ident) -> bool {
    let is_in = |value: &Option<Expr>| {
        value.as_ref().is_some_and(|value| mentions(&value.to_token_stream(), name))
    };
    is_in_key(&options.key, name) || is_in(&options.cache) || is_in(&options.namespace)
}

fn is_in_key(key: &Key, name: &Ident) -> bool {
    match key {
        Key::Template(template) => template.holes().any(|hole| is_named(hole, name)),
        Key::Is(value) => mentions(&value.to_token_stream(), name),
        Key::Arguments { .. } => false,
    }
}

fn is_named(hole: &Hole, name: &Ident) -> bool {
    name.unraw() == hole.root.strip_prefix("r#").unwrap_or(&hole.root)
}

/// Whether an expression names an argument, also inside the text of a `format!`.
pub(crate) fn mentions(tokens: &TokenStream, name: &Ident) -> bool {
    let plain = name.unraw().to_string();
    let mut before: [Option<String>; 2] = [None, None];
    for token in tokens.clone() {
        let found = match &token {
            TokenTree::Ident(word) => word.unraw() == plain,
            TokenTree::Group(group) => {
                let is_format = before[1].as_deref() == Some("!")
                    && matches!(before[0].as_deref(), Some("format" | "format_args"));
                mentions(&group.stream(), name) || (is_format && captures(&group.stream(), &plain))
            }
            _ => false,
        };
        if found {
            return true;
        }
        before = [before[1].take(), Some(token.to_string())];
    }
    false
}

/// Whether the text of a `format!` has a hole with this name.
fn captures(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| {
        let text = token.to_string();
        text.replace("{{", "")
            .split('{')
            .skip(1)
            .any(|after| after.strip_prefix(name).is_some_and(|rest| rest.starts_with(['}', ':'])))
    })
}

/// The arguments that the key and the namespace are made of.
pub(crate) fn parts<'f>(options: &Options, function: &'f Function) -> Vec<&'f Argument> {
    parts_of(options, function, &[&options.namespace])
}

/// The arguments that decide about the entry of a call.
pub(crate) fn parts_with_cache<'f>(options: &Options, function: &'f Function) -> Vec<&'f Argument> {
    parts_of(options, function, &[&options.namespace, &options.cache])
}

fn parts_of<'f>(
    options: &Options,
    function: &'f Function,
    more: &[&Option<Expr>],
) -> Vec<&'f Argument> {
    let is_part = |argument: &&Argument| {
        let is_in_more = |name: &Ident| {
            let mut more = more.iter().filter_map(|value| value.as_ref());
            more.any(|value| mentions(&value.to_token_stream(), name))
        };
        match &options.key {
            Key::Arguments { .. } => {
                is_written(options, argument) || argument.bound.iter().any(is_in_more)
            }
            key => argument.bound.iter().any(|name| is_in_key(key, name) || is_in_more(name)),
        }
    };
    function.arguments.iter().filter(is_part).collect()
}

/// Whether an argument is written into a key without `key`.
fn is_written(options: &Options, argument: &Argument) -> bool {
    !argument.is_self && !argument.bound.iter().any(|name| is_skipped(options, name))
}

/// The key of a call, as a `KeyBuf`.
pub(crate) fn code(options: &Options, function: &Function) -> TokenStream {
    let larder = &options.larder;
    let mut write = TokenStream::new();
    if let Some(namespace) = &options.namespace {
        write.extend(quote!(__larder_key.namespace(#namespace);));
    }
    match &options.key {
        Key::Template(template) => write.extend(template_code(template, &function.arguments)),
        Key::Is(value) => write.extend(quote!(__larder_key.whole(&(#value));)),
        Key::Arguments { name } => {
            let prefix = match name {
                Some(name) => quote!(#name),
                None => {
                    let name = function.signature.ident.unraw().to_string();
                    quote!(::core::concat!(::core::module_path!(), "::", #name))
                }
            };
            write.extend(quote!(__larder_key.text(#prefix);));
            let written = function.arguments.iter().filter(|all| is_written(options, all));
            for name in written.map(|argument| &argument.name) {
                let place = Span::call_site().located_at(name.span());
                write.extend(quote_spanned! {place=>
                    __larder_key.text(":");
                    __larder_key.json(&#name);
                });
            }
        }
    }
    in_parts(larder, &write, parts(options, function))
}

/// A key with the code that writes it, after the patterns of the arguments that it needs.
fn in_parts(larder: &Path, write: &TokenStream, parts: Vec<&Argument>) -> TokenStream {
    let patterns = parts.into_iter().filter_map(|argument| {
        let (pattern, name) = (argument::shared(argument.pattern.as_ref()?), &argument.name);
        Some(quote!(#[allow(unused_variables)] let #pattern = &#name;))
    });
    quote! {{
        let mut __larder_key = #larder::__private::KeyBuf::new();
        #(#patterns)*
        #write
        __larder_key
    }}
}

/// The statements that write a template.
pub(crate) fn template_code(template: &Template, all: &[Argument]) -> TokenStream {
    let separators = template.separators();
    let pieces = template.pieces.iter().map(|piece| match piece {
        Piece::Text(text) => quote!(__larder_key.text(#text);),
        Piece::Hole(hole) => {
            let value = hole_code(hole, all, template.span);
            let place = Span::call_site().located_at(template.span);
            if separators.is_empty() {
                quote_spanned!(place=> __larder_key.whole(&#value);)
            } else {
                quote_spanned!(place=> __larder_key.part(&#value, #separators);)
            }
        }
    });
    quote!(#(#pieces)*)
}

/// The value of a hole. Its name has the hygiene of the argument, the rest that of the call site.
pub(crate) fn hole_code(hole: &Hole, all: &[Argument], span: Span) -> TokenStream {
    let place = Span::call_site().located_at(span);
    let root = match bound(all, &hole.root) {
        Some(name) => argument::at(name, span),
        None => Ident::new(&hole.root, place),
    };
    let steps = hole.steps.iter().map(|step| match step {
        Step::Field(name) => {
            let name = identifier(name, place);
            quote!(.#name)
        }
        Step::Index(index) => {
            let index = Index { index: *index, span: place };
            quote!(.#index)
        }
        Step::Call(name) => {
            let name = identifier(name, place);
            quote!(.#name())
        }
    });
    quote_spanned!(place=> (#root #(#steps)*))
}

fn identifier(name: &str, span: Span) -> Ident {
    match name.strip_prefix("r#") {
        Some(name) => Ident::new_raw(name, span),
        None => Ident::new(name, span),
    }
}
