//! The generic parameters that a companion needs: those of the arguments that it takes.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use std::collections::BTreeSet;
use syn::punctuated::Punctuated;
use syn::{GenericParam, Generics, Token, WhereClause, WherePredicate};

/// The parameters that `used` mentions, with the parameters in their bounds.
pub(crate) fn used_in(generics: &Generics, used: &TokenStream) -> Generics {
    let all: BTreeSet<String> = generics.params.iter().map(name).collect();
    let mut needed: BTreeSet<String> = words(used).intersection(&all).cloned().collect();
    loop {
        let before = needed.len();
        let params = generics.params.iter().filter(|param| needed.contains(&name(param)));
        let more: BTreeSet<String> = params.flat_map(|param| words(&bounds(param))).collect();
        needed.extend(more.intersection(&all).cloned());
        if needed.len() == before {
            break;
        }
    }
    let mut kept = Generics::default();
    for param in generics.params.iter().filter(|param| needed.contains(&name(param))) {
        kept.params.push(param.clone());
    }
    if !kept.params.is_empty() {
        kept.lt_token = Some(Default::default());
        kept.gt_token = Some(Default::default());
    }
    kept.where_clause = generics.where_clause.as_ref().and_then(|clause| {
        let holds = |predicate: &&WherePredicate| {
            let mentioned: BTreeSet<String> =
                words(&predicate.to_token_stream()).intersection(&all).cloned().collect();
            mentioned.is_subset(&needed)
        };
        let predicates: Punctuated<WherePredicate, Token![,]> =
            clause.predicates.iter().filter(holds).cloned().collect();
        let where_token = clause.where_token;
        (!predicates.is_empty()).then_some(WhereClause { where_token, predicates })
    });
    kept
}

/// The parameters that `used` mentions, and those that bounds connect with them: where the former
/// are known, the compiler knows the latter.
pub(crate) fn known_by(generics: &Generics, used: &TokenStream) -> BTreeSet<String> {
    let all: BTreeSet<String> = generics.params.iter().map(name).collect();
    let clause = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    let connected: Vec<BTreeSet<String>> = generics
        .params
        .iter()
        .map(|param| words(&param.to_token_stream()))
        .chain(clause.map(|predicate| words(&predicate.to_token_stream())))
        .map(|words| words.intersection(&all).cloned().collect())
        .collect();
    let mut known: BTreeSet<String> = words(used).intersection(&all).cloned().collect();
    loop {
        let before = known.len();
        for together in &connected {
            if !together.is_disjoint(&known) {
                known.extend(together.iter().cloned());
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// `::<T, N>`: the types and constants, as lifetimes are inferred.
pub(crate) fn turbofish(generics: &Generics) -> TokenStream {
    let names: Vec<TokenStream> = generics
        .params
        .iter()
        .filter_map(|param| match param {
            GenericParam::Lifetime(_) => None,
            GenericParam::Type(param) => Some(param.ident.to_token_stream()),
            GenericParam::Const(param) => Some(param.ident.to_token_stream()),
        })
        .collect();
    if names.is_empty() { TokenStream::new() } else { quote!(::<#(#names),*>) }
}

fn name(param: &GenericParam) -> String {
    match param {
        GenericParam::Lifetime(param) => param.lifetime.to_string(),
        GenericParam::Type(param) => param.ident.to_string(),
        GenericParam::Const(param) => param.ident.to_string(),
    }
}

fn bounds(param: &GenericParam) -> TokenStream {
    match param {
        GenericParam::Lifetime(param) => param.bounds.to_token_stream(),
        GenericParam::Type(param) => param.bounds.to_token_stream(),
        GenericParam::Const(param) => param.ty.to_token_stream(),
    }
}

/// The names and lifetimes in some tokens.
fn words(tokens: &TokenStream) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_lifetime = false;
    for token in tokens.clone() {
        let mut quote = false;
        match token {
            TokenTree::Ident(word) if is_lifetime => drop(found.insert(format!("'{word}"))),
            TokenTree::Ident(word) => drop(found.insert(word.to_string())),
            TokenTree::Group(group) => found.extend(words(&group.stream())),
            TokenTree::Punct(punct) => quote = punct.as_char() == '\'',
            TokenTree::Literal(_) => {}
        }
        is_lifetime = quote;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(function: &str, used: &str) -> String {
        let signature: syn::Signature = syn::parse_str(function).expect("a signature");
        let kept = used_in(&signature.generics, &used.parse().expect("tokens"));
        let clause = &kept.where_clause;
        quote!(#kept #clause).to_string()
    }

    #[test]
    fn parameters_come_with_those_in_their_bounds() {
        let function = "fn f<'a, T: Into<U>, U, V>(t: T, v: &'a V) where U: Clone, V: Copy";
        assert_eq!(kept(function, "T"), "< T : Into < U > , U > where U : Clone");
        assert_eq!(kept(function, "&'a V"), "< 'a , V > where V : Copy");
        assert_eq!(kept(function, "u64"), "");
    }

    #[test]
    fn a_type_is_known_by_the_arguments_or_by_bounds_with_those_that_are() {
        let function =
            "fn f<F: Fn(u8) -> R, R, T: Copy, U>(f: F) where R: Future<Output = U>, T: Sized";
        let signature: syn::Signature = syn::parse_str(function).expect("a signature");
        let known = known_by(&signature.generics, &quote!(u8, F));
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["F", "R", "U"]);
    }
}
