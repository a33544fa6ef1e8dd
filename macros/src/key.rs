//! The key of a call: which arguments it contains, and the code that writes it.

use crate::argument::{self, Argument, contains};
use crate::function::Function;
use crate::generics;
use crate::options::{Key, Options, Purpose};
use crate::template::{Hole, Piece, Step, Template};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Index, LitStr, Path, Result};

/// What the value is called in a key or tag of `#[puts]`.
pub(crate) const RESULT: &str = "result";

/// Refuses a key that two different calls could share.
pub(crate) fn check(options: &Options, function: &Function) -> Result<()> {
    if let Some(span) = options.has_name
        && options.has("key")
    {
        return Err(syn::Error::new(span, "`name` is for functions without `key`"));
    }
    if let Key::Template(template) = &options.key {
        check_holes(template, function, &[])?;
    }
    check_tags(options, function)?;
    check_skip(options, function)?;
    if !options.has("key") && !function.signature.generics.params.is_empty() {
        let is_typed = function.signature.generics.type_params().next().is_some();
        if is_typed {
            return Err(syn::Error::new_spanned(
                &function.signature.generics,
                "a generic function needs `key`: without one, its types would share their entries",
            ));
        }
    }
    check_constants(options, function)?;
    check_types(options, function)?;
    function.arguments.iter().try_for_each(|argument| check_argument(argument, options))
}

/// Each hole names an argument or constant of the function, or one of `more`.
pub(crate) fn check_holes(template: &Template, function: &Function, more: &[&str]) -> Result<()> {
    for hole in template.holes() {
        let is_known = more.contains(&hole.root.as_str())
            || bound(&function.arguments, &hole.root).is_some()
            || function.constants().any(|name| is_named(hole, name));
        if is_known {
            continue;
        }
        let message = if hole.root == "self" {
            "there is no `self` here".to_owned()
        } else {
            not_an_argument(&hole.root, known(function).chain(more.iter().map(ToString::to_string)))
        };
        return Err(syn::Error::new(template.span, message));
    }
    Ok(())
}

fn not_an_argument(name: &str, known: impl Iterator<Item = String>) -> String {
    let known: Vec<String> = known.collect();
    match known.is_empty() {
        true => format!("`{name}` is not an argument; there are none"),
        false => format!("`{name}` is not an argument; there are: {}", known.join(", ")),
    }
}

fn known(function: &Function) -> impl Iterator<Item = String> {
    let arguments = function.arguments.iter().flat_map(|argument| &argument.bound);
    arguments.chain(function.constants()).map(|name| name.unraw().to_string())
}

/// The tags are made before the function runs.
fn check_tags(options: &Options, function: &Function) -> Result<()> {
    for tag in &options.tags {
        let Key::Template(template) = tag else { continue };
        let message =
            "`{result}` is for `puts`: the tags of `cached` are made before the function runs";
        refuse_result(template, function, message)?;
        check_holes(template, function, &[])?;
    }
    Ok(())
}

/// Refuses a hole for the value where there is none yet. An argument may have that name.
pub(crate) fn refuse_result(template: &Template, function: &Function, message: &str) -> Result<()> {
    let is_argument = bound(&function.arguments, RESULT).is_some();
    if !is_argument && template.holes().any(|hole| hole.root == RESULT) {
        return Err(syn::Error::new(template.span, message));
    }
    Ok(())
}

/// The name in the function that a hole means.
fn bound<'a>(all: &'a [Argument], root: &str) -> Option<&'a Ident> {
    let root = root.strip_prefix("r#").unwrap_or(root);
    all.iter().flat_map(|argument| &argument.bound).find(|name| name.unraw() == root)
}

fn check_skip(options: &Options, function: &Function) -> Result<()> {
    for skipped in &options.skip {
        let name = skipped.unraw().to_string();
        if !known(function).any(|known| known == name) && !function.types().any(|ty| ty == skipped)
        {
            let types = function.types().map(ToString::to_string);
            let message = not_an_argument(&skipped.to_string(), known(function).chain(types));
            return Err(syn::Error::new(skipped.span(), message));
        }
    }
    Ok(())
}

/// A constant that no argument shows decides about the key as an argument does. Without `key` the
/// constants are in it.
fn check_constants(options: &Options, function: &Function) -> Result<()> {
    if matches!(options.key, Key::Arguments { .. }) {
        return Ok(());
    }
    for name in function.constants() {
        let is_shown = function
            .arguments
            .iter()
            .any(|all| contains(&all.ty.to_token_stream(), &name.to_string()));
        if !is_shown && !is_skipped(options, name) && !is_used(options, name) {
            let message =
                format!("`{name}` is not in the key: write `{{{name}}}` in it, or `skip({name})`");
            return Err(syn::Error::new(name.span(), message));
        }
    }
    Ok(())
}

/// Nor may calls that differ in a type only share an entry: one would read the other's value.
fn check_types(options: &Options, function: &Function) -> Result<()> {
    let types = function.arguments.iter().map(|argument| argument.ty.to_token_stream());
    let shown = generics::known_by(&function.signature.generics, &types.collect());
    let parts = parts_in_expressions(options, &[&options.namespace, &options.cache]);
    for name in function.types() {
        if shown.contains(&name.to_string())
            || is_skipped(options, name)
            || contains(&parts, &name.to_string())
        {
            continue;
        }
        let message = format!(
            "`{name}` is not in the key: write `key = format!(\"…{{}}…\", {name}::NAME)` with a \
             constant of its trait, or `skip({name})`"
        );
        return Err(syn::Error::new(name.span(), message));
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
                let is_in_tags = is_in_tags(options, name);
                let name = name.unraw();
                let place =
                    if is_in_tags { "in a tag, and not in the key" } else { "not in the key" };
                format!("`{name}` is {place}: write `{{{name}}}` in it, or `skip({name})`")
            }
        };
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(())
}

fn is_skipped(options: &Options, name: &Ident) -> bool {
    options.skip.iter().any(|skipped| skipped.unraw() == name.unraw())
}

/// Whether an argument is in a tag.
pub(crate) fn is_in_tags(options: &Options, name: &Ident) -> bool {
    options.tags.iter().any(|tag| is_in_key(tag, name))
}

/// Whether an argument is in an option of the view.
pub(crate) fn is_in_options(options: &Options, argument: &Argument) -> bool {
    let expressions = options.expressions(Purpose::Call);
    argument.bound.iter().any(|name| mentions(&expressions, name))
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

/// Whether an expression names an argument, also inside the text of a `format!`. A field, a method,
/// a lifetime, and what is in a module may have the argument's name.
pub(crate) fn mentions(tokens: &TokenStream, name: &Ident) -> bool {
    let plain = name.unraw().to_string();
    let mut before: [Option<String>; 2] = [None, None];
    for token in tokens.clone() {
        let found = match &token {
            TokenTree::Ident(word) => {
                let is_member = match (before[0].as_deref(), before[1].as_deref()) {
                    (Some("."), Some(".")) => false,
                    (_, Some("." | "'")) | (Some(":"), Some(":")) => true,
                    _ => false,
                };
                word.unraw() == plain && !is_member
            }
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

/// The arguments that the tags are made of.
pub(crate) fn parts_of_tags<'f>(options: &Options, function: &'f Function) -> Vec<&'f Argument> {
    let is_part =
        |argument: &&Argument| argument.bound.iter().any(|name| is_in_tags(options, name));
    function.arguments.iter().filter(is_part).collect()
}

/// The generic constants that decide about the entry of a call, or are in one of `tags`.
pub(crate) fn constants_in(options: &Options, function: &Function, tags: &[Key]) -> TokenStream {
    let is_in = |name: &&Ident| {
        let is_written = matches!(options.key, Key::Arguments { .. }) && !is_skipped(options, name);
        is_written || is_used(options, name) || tags.iter().any(|tag| is_in_key(tag, name))
    };
    let names = function.constants().filter(is_in);
    quote!(#(#names)*)
}

/// The expressions of the key and of some options. They may name generic types.
pub(crate) fn parts_in_expressions(options: &Options, more: &[&Option<Expr>]) -> TokenStream {
    let mut parts = TokenStream::new();
    if let Key::Is(key) = &options.key {
        key.to_tokens(&mut parts);
    }
    more.iter().copied().flatten().for_each(|value| value.to_tokens(&mut parts));
    parts
}

/// The expressions among the tags.
pub(crate) fn expressions_of_tags(options: &Options) -> TokenStream {
    let tags = options.tags.iter().filter_map(|tag| match tag {
        Key::Is(tag) => Some(tag.to_token_stream()),
        Key::Template(_) | Key::Arguments { .. } => None,
    });
    tags.collect()
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
        let namespace = borrowed(namespace);
        write.extend(quote!(__larder_key.namespace(#namespace);));
    }
    write.extend(match &options.key {
        Key::Arguments { name } => arguments_code(options, function, name.as_ref()),
        key => key_code(key, function),
    });
    let patterns = patterns(parts(options, function));
    written(larder, &quote!(#patterns #write))
}

/// The statements that write the key of a function without `key`.
fn arguments_code(options: &Options, function: &Function, name: Option<&LitStr>) -> TokenStream {
    let ident = &function.signature.ident;
    // The name of a type says in which function it is, and its generic types. A module does not.
    let mut write = match name {
        Some(name) => quote!(__larder_key.text(#name);),
        None if function.is_method() => {
            let method = format!("::{}", ident.unraw());
            quote! {
                __larder_key.text(::core::any::type_name::<Self>());
                __larder_key.text(#method);
            }
        }
        None => quote!(__larder_key.text(::core::any::type_name::<#ident>());),
    };
    let written = function.arguments.iter().filter(|all| is_written(options, all));
    for name in written.map(|argument| &argument.name) {
        let place = Span::call_site().located_at(name.span());
        write.extend(quote_spanned! {place=>
            __larder_key.text(":");
            __larder_key.json(&#name);
        });
    }
    for name in function.constants().filter(|name| !is_skipped(options, name)) {
        write.extend(quote!(__larder_key.text(":"); __larder_key.json(&#name);));
    }
    write
}

/// The statements that write a key or tag that is written out.
pub(crate) fn key_code(key: &Key, function: &Function) -> TokenStream {
    match key {
        Key::Template(template) => template_code(template, &function.arguments),
        Key::Is(value) => quote!(__larder_key.whole(&(#value));),
        Key::Arguments { .. } => TokenStream::new(),
    }
}

/// The tags of a call, as an array of `KeyBuf`s.
pub(crate) fn tags_code(options: &Options, function: &Function) -> TokenStream {
    let patterns = patterns(parts_of_tags(options, function));
    let tags = options.tags.iter().map(|tag| written(&options.larder, &key_code(tag, function)));
    quote!({ #patterns [#(#tags),*] })
}

/// A `KeyBuf` with what the code writes into it.
pub(crate) fn written(larder: &Path, write: &TokenStream) -> TokenStream {
    quote! {{
        let mut __larder_key = #larder::__private::KeyBuf::new();
        #write
        __larder_key
    }}
}

/// A borrow of an expression. An error about its type is shown at the expression.
pub(crate) fn borrowed(value: &Expr) -> TokenStream {
    let first = value.to_token_stream().into_iter().next();
    let place = first.map_or_else(Span::call_site, |token| token.span());
    quote_spanned!(Span::call_site().located_at(place)=> &(#value))
}

/// The arguments whose names are in an expression.
pub(crate) fn parts_in<'f>(expression: &TokenStream, function: &'f Function) -> Vec<&'f Argument> {
    let is_part =
        |argument: &&Argument| argument.bound.iter().any(|name| mentions(expression, name));
    function.arguments.iter().filter(is_part).collect()
}

/// An expression that names arguments, after the patterns of those that are more than a name.
pub(crate) fn with_patterns(expression: &TokenStream, function: &Function) -> TokenStream {
    let patterns = patterns(parts_in(expression, function));
    if patterns.is_empty() { expression.clone() } else { quote!({ #patterns #expression }) }
}

/// The patterns of some arguments, which borrow what the arguments contain.
fn patterns(parts: Vec<&Argument>) -> TokenStream {
    let patterns = parts.into_iter().filter_map(|argument| {
        let (pattern, name) = (argument::shared(argument.pattern.as_ref()?), &argument.name);
        Some(quote!(#[allow(unused_variables)] let #pattern = &#name;))
    });
    patterns.collect()
}

/// The statements that write a template.
fn template_code(template: &Template, all: &[Argument]) -> TokenStream {
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
    let plain = name.strip_prefix("r#").unwrap_or(name);
    match syn::parse_str::<Ident>(plain) {
        Ok(_) => Ident::new(plain, span),
        // A keyword: `{user.type}` is the field `r#type`.
        Err(_) => Ident::new_raw(plain, span),
    }
}
