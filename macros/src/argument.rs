//! The arguments of a function: their names, and how a load takes them.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree, token_stream};
use quote::{ToTokens, TokenStreamExt, format_ident, quote};
use std::iter::Peekable;
use syn::ext::IdentExt;
use syn::{Lifetime, Pat, PatType, Receiver, ReceiverKind, Type, TypeReference};

/// An argument, or the receiver of a method.
pub(crate) struct Argument {
    /// How generated code names it.
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// The pattern, if it is more than a name.
    pub(crate) pattern: Option<Pat>,
    /// The names that the function's body sees.
    pub(crate) bound: Vec<Ident>,
    pub(crate) is_self: bool,
}

/// How a load that has a task of its own takes an argument.
pub(crate) enum Taking<'a> {
    /// As it is.
    Whole,
    /// A clone, on a miss.
    Clone(&'a Type),
    /// Not at all: it is borrowed mutably.
    Mutable,
    /// Not at all: it borrows inside.
    Borrows,
    /// Not at all: its type has no name.
    Unnamed,
}

impl Argument {
    pub(crate) fn typed(argument: &PatType, position: usize) -> Self {
        let ty = (*argument.ty).clone();
        if let Pat::Ident(name) = &*argument.pat
            && name.by_ref.is_none()
            && name.subpat.is_none()
        {
            let name = name.ident.clone();
            return Self { bound: vec![name.clone()], name, ty, pattern: None, is_self: false };
        }
        let mut bound = Vec::new();
        names(&argument.pat, &mut bound);
        let pattern = Some((*argument.pat).clone());
        Self { name: format_ident!("__larder_arg{position}"), ty, pattern, bound, is_self: false }
    }

    pub(crate) fn receiver(receiver: &Receiver) -> Self {
        let name = Ident::new("self", receiver.self_token.span);
        let own = || -> Type { syn::parse_quote!(Self) };
        let ty = match &receiver.kind {
            ReceiverKind::Reference(and, lifetime, mutability) => Type::Reference(TypeReference {
                attrs: Vec::new(),
                and_token: *and,
                lifetime: lifetime.clone(),
                mutability: *mutability,
                elem: Box::new(own()),
            }),
            ReceiverKind::Typed(_, ty) => (**ty).clone(),
            _ => own(),
        };
        Self { bound: vec![name.clone()], name, ty, pattern: None, is_self: true }
    }

    /// The argument in the signature that people see.
    pub(crate) fn declared(&self) -> TokenStream {
        let (name, ty) = (&self.name, &self.ty);
        quote!(#name: #ty)
    }

    pub(crate) fn taking(&self) -> Taking<'_> {
        if contains_impl(&self.ty) {
            return Taking::Unnamed;
        }
        let Type::Reference(reference) = ungrouped(&self.ty) else {
            return if borrows(self.ty.to_token_stream(), &mut Vec::new()) {
                Taking::Borrows
            } else {
                Taking::Whole
            };
        };
        let is_static = reference.lifetime.as_ref().is_some_and(is_static);
        if reference.mutability.is_some() {
            Taking::Mutable
        } else if borrows(reference.elem.to_token_stream(), &mut Vec::new()) {
            Taking::Borrows
        } else if is_static {
            Taking::Whole
        } else {
            Taking::Clone(&reference.elem)
        }
    }

    /// The names that the body sees and reads: not those that begin with `_`.
    pub(crate) fn read_names(&self) -> impl Iterator<Item = &Ident> {
        self.bound.iter().filter(|name| !name.to_string().starts_with('_'))
    }
}

/// The type without invisible groups.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        other => other,
    }
}

fn is_static(lifetime: &Lifetime) -> bool {
    lifetime.ident == "static"
}

pub(crate) fn contains_impl(ty: &Type) -> bool {
    contains(&ty.to_token_stream(), "impl")
}

/// Whether a type contains a reference, which cannot be read back from a store: also a `&'static`
/// one.
pub(crate) fn contains_reference(ty: &Type) -> bool {
    let is_borrow =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '&');
    any(&ty.to_token_stream(), &is_borrow)
}

/// Whether a word occurs anywhere.
pub(crate) fn contains(tokens: &TokenStream, word: &str) -> bool {
    any(tokens, &|token| matches!(token, TokenTree::Ident(ident) if ident.unraw() == word))
}

/// Whether a token is such a one, also within groups.
fn any(tokens: &TokenStream, is_it: &impl Fn(&TokenTree) -> bool) -> bool {
    tokens.clone().into_iter().any(|token| match &token {
        TokenTree::Group(group) => any(&group.stream(), is_it),
        token => is_it(token),
    })
}

type Tokens = Peekable<token_stream::IntoIter>;

fn is_next(tokens: &mut Tokens, letter: char) -> bool {
    matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == letter)
}

/// Whether a type contains a reference or lifetime that ends before the program. What function
/// types take and return does not count, nor do the lifetimes of `for<'a>`, which are `bound`.
fn borrows(tokens: TokenStream, bound: &mut Vec<Ident>) -> bool {
    let mut tokens = tokens.into_iter().peekable();
    let mut is_function = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                let Some(TokenTree::Ident(name)) = tokens.next() else { return true };
                if name != "static" && !bound.contains(&name) {
                    return true;
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == '&' && !is_next(&mut tokens, '\'') => {
                return true;
            }
            TokenTree::Group(_) if is_function => pass_returned(&mut tokens),
            TokenTree::Group(group) if borrows(group.stream(), bound) => return true,
            TokenTree::Ident(word) if word == "for" => {
                let lifetimes = tokens.by_ref().take_while(
                    |token| !matches!(token, TokenTree::Punct(end) if end.as_char() == '>'),
                );
                bound.extend(lifetimes.filter_map(|token| match token {
                    TokenTree::Ident(name) => Some(name),
                    _ => None,
                }));
            }
            TokenTree::Ident(name) => {
                is_function = ["fn", "Fn", "FnMut", "FnOnce"].iter().any(|word| name == word);
                continue;
            }
            _ => {}
        }
        is_function = false;
    }
    false
}

/// Passes over `-> type` after the arguments of a function type.
fn pass_returned(tokens: &mut Tokens) {
    if !is_next(tokens, '-') {
        return;
    }
    let (mut depth, mut before) = (0_u32, ' ');
    while let Some(token) = tokens.peek() {
        let letter = if let TokenTree::Punct(punct) = token { punct.as_char() } else { ' ' };
        match letter {
            '<' => depth += 1,
            '>' if before == '-' => {}
            ',' | '+' | '=' | '>' if depth == 0 => return,
            '>' => depth -= 1,
            _ => {}
        }
        before = letter;
        tokens.next();
    }
}

/// The names that a pattern binds.
fn names(pattern: &Pat, bound: &mut Vec<Ident>) {
    match pattern {
        Pat::Ident(name) => {
            // A name in upper case without more is a constant or a unit struct.
            let is_constant = name.subpat.is_none()
                && name.by_ref.is_none()
                && name.ident.to_string().starts_with(char::is_uppercase);
            if !is_constant {
                bound.push(name.ident.clone());
            }
            if let Some((_, inner)) = &name.subpat {
                names(inner, bound);
            }
        }
        Pat::Paren(inner) => names(&inner.pat, bound),
        Pat::Reference(inner) => names(&inner.pat, bound),
        Pat::Type(inner) => names(&inner.pat, bound),
        Pat::Slice(all) => all.elems.iter().for_each(|inner| names(inner, bound)),
        Pat::Tuple(all) => all.elems.iter().for_each(|inner| names(inner, bound)),
        Pat::TupleStruct(all) => all.elems.iter().for_each(|inner| names(inner, bound)),
        Pat::Struct(all) => all.fields.iter().for_each(|field| names(&field.pat, bound)),
        // All alternatives bind the same names.
        Pat::Or(all) => all.cases.iter().take(1).for_each(|inner| names(inner, bound)),
        _ => {}
    }
}

/// The pattern without `mut`, `ref` and `&mut`, to look into an argument without taking it.
pub(crate) fn shared(pattern: &Pat) -> TokenStream {
    fn strip(tokens: TokenStream) -> TokenStream {
        let is_mut = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Ident(word)) if word == "mut");
        let (mut stripped, mut tokens) = (TokenStream::new(), tokens.into_iter().peekable());
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(word) if word == "mut" || word == "ref" => {}
                TokenTree::Punct(and) if and.as_char() == '&' && is_mut(tokens.peek()) => {}
                TokenTree::Group(group) => {
                    let mut inner = Group::new(group.delimiter(), strip(group.stream()));
                    inner.set_span(group.span());
                    stripped.append(inner);
                }
                other => stripped.append(other),
            }
        }
        stripped
    }
    strip(pattern.to_token_stream())
}

/// The name with the hygiene of the argument, at another place. With the hygiene of that place the
/// compiler would not find the argument.
pub(crate) fn at(name: &Ident, place: Span) -> Ident {
    let mut name = name.clone();
    name.set_span(name.span().located_at(place));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(argument: &str) -> &'static str {
        let argument: syn::FnArg = syn::parse_str(argument).expect("an argument");
        let argument = match &argument {
            syn::FnArg::Typed(typed) => Argument::typed(typed, 0),
            syn::FnArg::Receiver(receiver) => Argument::receiver(receiver),
        };
        match argument.taking() {
            Taking::Whole => "whole",
            Taking::Clone(_) => "clone",
            Taking::Mutable => "mutable",
            Taking::Borrows => "borrows",
            Taking::Unnamed => "unnamed",
        }
    }

    #[test]
    fn how_a_load_takes_its_arguments() {
        for (argument, expected) in [
            ("id: u64", "whole"),
            ("self", "whole"),
            ("self: Arc<Self>", "whole"),
            ("name: &'static str", "whole"),
            ("all: Vec<&'static str>", "whole"),
            ("f: fn(&str) -> u8", "whole"),
            ("f: Arc<dyn Fn(&str) -> u8>", "whole"),
            ("f: fn(&str) -> &str", "whole"),
            ("f: for<'a> fn(&'a str) -> Cow<'a, str>", "whole"),
            ("f: Arc<dyn for<'a> Visit<'a> + Send>", "whole"),
            ("f: (fn(&str) -> Vec<&str>, u8)", "whole"),
            ("f: &Arc<dyn Fn(&str) -> Option<&str> + Send>", "clone"),
            ("f: (fn(&str) -> Vec<&str>, &str)", "borrows"),
            ("f: Box<dyn Fn(&str) -> &str + 'a>", "borrows"),
            ("f: Map<fn(&str) -> fn() -> u8, &'a str>", "borrows"),
            ("name: &str", "clone"),
            ("name: &'a str", "clone"),
            ("&self", "clone"),
            ("self: &Arc<Self>", "clone"),
            ("names: &[String]", "clone"),
            ("db: &mut Db", "mutable"),
            ("&mut self", "mutable"),
            ("name: Option<&str>", "borrows"),
            ("names: &[&str]", "borrows"),
            ("text: Cow<'_, str>", "borrows"),
            ("pair: (u8, &'a str)", "borrows"),
            ("name: impl Display", "unnamed"),
            ("name: &impl Display", "unnamed"),
        ] {
            assert_eq!(taking(argument), expected, "{argument}");
        }
    }

    #[test]
    fn a_pattern_binds_names() {
        let pattern: syn::FnArg =
            syn::parse_str("Point { x, y: (mut a, _), z: None, .. }: Point").expect("an argument");
        let syn::FnArg::Typed(pattern) = pattern else { panic!("a receiver") };
        let argument = Argument::typed(&pattern, 3);
        assert_eq!(argument.bound, ["x", "a"]);
        assert_eq!(argument.name, "__larder_arg3");
        let seen = shared(&pattern.pat).to_string();
        assert!(!seen.contains("mut"), "{seen}");
    }
}
