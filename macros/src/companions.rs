//! What stands beside a function under `#[cached]`: `key`, `invalidate`, `peek`, `put`, `refresh`,
//! `uncached`, and the call and the load that they share.

use crate::argument::{Argument, Taking};
use crate::cached::{Cached, Home};
use crate::function::{Runs, params};
use crate::generics;
use crate::key;
use crate::lints;
use crate::options::Purpose;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{FnArg, Path, Type};

/// Everything beside the function.
pub(crate) fn code(cached: &Cached) -> TokenStream {
    let conditions = &cached.attributes.conditions;
    let functions = match cached.home {
        Home::Nowhere => return TokenStream::new(),
        Home::Enum => vec![
            uncached(cached),
            call(cached),
            load(cached),
            refresh(cached),
            key(cached),
            invalidate(cached),
            peek(cached),
            put(cached),
        ],
        Home::Impl => {
            vec![
                uncached(cached),
                call(cached),
                load(cached),
                refresh(cached),
                key(cached),
                invalidate(cached),
            ]
        }
    };
    if cached.home == Home::Impl {
        let present = functions.into_iter().filter(|function| !function.is_empty());
        return present.map(|function| quote!(#(#conditions)* #function)).collect();
    }
    let (visibility, ident) = (&cached.function.visibility, &cached.function.signature.ident);
    let doc = format!("The entries of [`{0}`](fn@{0}) in the cache.", ident.unraw());
    let beside = lints::beside();
    let hidden = cached.attributes.is_hidden.then(|| quote!(#[doc(hidden)]));
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #hidden
        #beside
        #visibility enum #ident {}

        #(#conditions)*
        impl #ident {
            #(#functions)*
        }
    }
}

/// The lints of a companion.
fn quiet() -> TokenStream {
    let (quiet, unused) = (lints::quiet(), lints::unused());
    quote!(#quiet #unused)
}

/// The function itself.
fn uncached(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let (attributes, visibility) = (&cached.attributes.body, &function.visibility);
    let (ident, body) = (cached.companion("uncached"), &function.body);
    let signature = &function.signature;
    let (generics, output) = (params(&signature.generics), &signature.output);
    // An argument of the key is used, also where the body does not read it.
    let inputs = signature.inputs.iter().zip(&function.arguments).map(|(input, argument)| {
        let options = &cached.options;
        let is_used = argument
            .bound
            .iter()
            .any(|name| key::is_used(options, name) || key::is_in_tags(options, name))
            || key::is_in_options(options, argument);
        let quiet = (is_used && !argument.is_self).then(|| quote!(#[allow(unused_variables)]));
        quote!(#quiet #input)
    });
    let clause = &signature.generics.where_clause;
    let (asyncness, abi) = (&signature.asyncness, &signature.abi);
    let name = signature.ident.unraw();
    let doc = format!("Runs the body of `{name}`, without the cache.");
    let quiet = lints::body();
    let errors = if function.output.is_result() {
        quote!(#[doc = ""] #[doc = "# Errors"] #[doc = ""] #[doc = "Those of the function."])
    } else {
        TokenStream::new()
    };
    quote! {
        #[doc = #doc]
        #errors
        #quiet
        #(#attributes)*
        #visibility #asyncness #abi fn #ident #generics (#(#inputs),*) #output #clause #body
    }
}

/// The call of the core, with `__larder_view` and `__larder_key`, as an expression.
pub(crate) fn core(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let uncached = cached.path("uncached");
    let signature = &function.signature;
    let turbofish = generics::turbofish(&signature.generics);
    let names = cached.names();
    let load = match function.runs {
        Runs::Blocking => quote!(move || #uncached #turbofish (#(#names),*)),
        _ if cached.is_detached() => {
            let (load, arguments) = begun(cached);
            quote!(#load, #arguments)
        }
        // As a block the future is made when the load begins: a boxed one is not boxed on a hit.
        _ => quote!(async move { #uncached #turbofish (#(#names),*).await }),
    };
    cached.call(&load)
}

/// The call for the function and for `refresh`, so that it is compiled once for both. Where the load
/// has a task of its own, a `refresh` is a call of larder's, which is compiled once for all functions
/// with the same types.
fn call(cached: &Cached) -> TokenStream {
    if cached.is_detached() {
        return TokenStream::new();
    }
    let function = &cached.function;
    let (ident, signature) = (cached.companion("__larder_call"), &function.signature);
    let forced = quote! {
        let __larder_view = match __larder_is_forced {
            true => __larder_view.force_refresh(),
            false => __larder_view,
        };
    };
    let body = cached.prepared(&forced, &core(cached));
    let asyncness = (!function.is_blocking()).then(|| quote!(async));
    let (params, clause) = (params(&signature.generics), &signature.generics.where_clause);
    let (inputs, ty, quiet) = (function.declared(), &function.output.ty, quiet());
    quote! {
        #[doc(hidden)]
        #quiet
        #asyncness fn #ident #params (
            #(#inputs,)* __larder_is_forced: ::core::primitive::bool,
        ) -> #ty #clause {
            #body
        }
    }
}

/// The load that has a task of its own. It is a named function and returns a box: if a function
/// that calls itself were its own load's future, the compiler could not find out if it is `Send`.
/// It takes the arguments as one, so that its pointer has a type that functions share.
fn load(cached: &Cached) -> TokenStream {
    if !cached.is_detached() {
        return TokenStream::new();
    }
    let (function, larder) = (&cached.function, cached.larder());
    let (ident, uncached) = (cached.companion("__larder_load"), cached.companion("uncached"));
    let generics = &function.signature.generics;
    let (params, clause, turbofish) =
        (params(generics), &generics.where_clause, generics::turbofish(generics));
    let types = function.arguments.iter().map(|argument| &argument.ty);
    let names: Vec<Ident> = function.arguments.iter().map(owned_name).collect();
    let taken = function.arguments.iter().map(|argument| taken(larder, argument));
    let arguments = function.arguments.iter().map(|argument| {
        let name = owned_name(argument);
        match argument.taking() {
            Taking::Clone(ty) => quote!(#larder::__private::borrowed::<#ty>(&#name)),
            _ => quote!(#name),
        }
    });
    let (future, quiet) = (future(&function.output.ty.to_token_stream()), quiet());
    quote! {
        #[doc(hidden)]
        #quiet
        fn #ident #params ((#(#names,)*): (#(#types,)*)) -> #future #clause {
            #(#taken)*
            ::std::boxed::Box::pin(async move { Self::#uncached #turbofish (#(#arguments),*).await })
        }
    }
}

/// The function that makes the load that has a task of its own, and its arguments.
fn begun(cached: &Cached) -> (TokenStream, TokenStream) {
    let (load, names) = (cached.path("__larder_load"), cached.names());
    let turbofish = generics::turbofish(&cached.function.signature.generics);
    (quote!(#load #turbofish), quote!((#(#names,)*)))
}

fn owned_name(argument: &Argument) -> Ident {
    if argument.is_self {
        return Ident::new("__larder_self", Span::call_site());
    }
    argument.name.clone()
}

/// A path as if it were written at a place: a message shows all of what was written.
fn at(path: &Path, place: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    tokens.collect()
}

/// Where a type is written, for what is generated.
fn place(ty: &Type) -> Span {
    let first = ty.to_token_stream().into_iter().next();
    Span::call_site().located_at(first.map_or_else(Span::call_site, |token| token.span()))
}

/// Clones an argument that the load has to own, as a statement.
fn taken(larder: &Path, argument: &Argument) -> TokenStream {
    let Taking::Clone(ty) = argument.taking() else { return TokenStream::new() };
    // A type that cannot be cloned is shown where it is.
    let (name, place, larder) = (owned_name(argument), place(ty), at(larder, place(ty)));
    quote_spanned!(place=> let #name = #larder::__private::loan::<#ty>(#name);)
}

fn refresh(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let ident = cached.companion("refresh");
    let name = function.signature.ident.unraw();
    let doc = format!(
        "Runs `{name}` although there may be a value, and stores the new one. If it fails, the old one stays."
    );
    let signature = &function.signature;
    let (params, clause) = (params(&signature.generics), &signature.generics.where_clause);
    let (inputs, ty) = (function.declared(), &function.output.ty);
    if cached.is_detached() {
        let (ty, body) = (future(&ty.to_token_stream()), detached_refresh(cached));
        let signature = quote!(fn #ident #params (#(#inputs),*) -> #ty #clause);
        return companion(cached, &doc, &signature, &body);
    }
    let asyncness = (!function.is_blocking()).then(|| quote!(async));
    let signature = quote!(#asyncness fn #ident #params (#(#inputs),*) -> #ty #clause);
    companion(cached, &doc, &signature, &cached.shared_call(true))
}

/// The body of `refresh` where the load has a task of its own. The future that it returns owns what
/// it needs, so that its type does not depend on the function.
fn detached_refresh(cached: &Cached) -> TokenStream {
    let (output, larder) = (&cached.function.output, cached.larder());
    let (value, keep, (load, arguments)) = (output.value(larder), cached.keep(), begun(cached));
    let (key, view) = (key::code(&cached.options, &cached.function), cached.view());
    let (tagged, span) = (cached.tagged_write(), cached.output_span());
    let call = if output.is_result() {
        let (error, errors) = cached.error();
        quote_spanned! {span=>
            #larder::__private::try_refresh::<#value, #error>(
                __larder_view, __larder_made, #load(#arguments), #keep, #errors
            )
        }
    } else {
        quote_spanned! {span=>
            #larder::__private::refresh::<#value, _>(
                __larder_view, __larder_made, #load(#arguments), #keep
            )
        }
    };
    quote! {
        let __larder_made = #key;
        let __larder_key = &__larder_made;
        #view
        #tagged
        #call
    }
}

fn key(cached: &Cached) -> TokenStream {
    let function = &cached.function;
    let doc = format!(
        "The key of a call of `{}`. Empty if an argument cannot be part of a key.",
        function.signature.ident.unraw()
    );
    let body = key::code(&cached.options, function);
    let ident = cached.companion("key");
    let (params, inputs, clause) = key_signature(cached, Needs::Key, &[], &TokenStream::new());
    let quiet = quiet();
    let visibility = &function.visibility;
    quote! {
        #[doc = #doc]
        #[must_use]
        #quiet
        #visibility fn #ident #params (#(#inputs),*) -> ::std::string::String #clause {
            #body.into_key()
        }
    }
}

fn invalidate(cached: &Cached) -> TokenStream {
    let (function, larder) = (&cached.function, cached.larder());
    let doc = format!(
        "Removes the entry of a call of `{}`; whether there was one.",
        function.signature.ident.unraw()
    );
    let ident = cached.companion("invalidate");
    let cache_argument = cache_argument(cached);
    let (params, inputs, clause) = key_signature(cached, Needs::Key, &[], &cache_argument);
    let (key, cache) = (key::code(&cached.options, function), cache(cached));
    let remove = match function.is_blocking() {
        true => quote!(__larder_cache.remove(__larder_key.into_key())),
        false => quote!(#larder::__private::invalidate(__larder_cache, __larder_key)),
    };
    let ty = answer(cached, &quote!(#larder::Result<::core::primitive::bool>));
    let signature = quote!(fn #ident #params (#(#inputs),*) -> #ty #clause);
    companion(cached, &doc, &signature, &quote!(let __larder_key = #key; #cache #remove))
}

fn peek(cached: &Cached) -> TokenStream {
    let (function, larder) = (&cached.function, cached.larder());
    let doc = format!(
        "The stored value of a call of `{}`, if there is one. Runs nothing.",
        function.signature.ident.unraw()
    );
    let value = function.output.value(larder);
    let cache_argument = cache_argument(cached);
    let (params, inputs, clause) = key_signature(cached, Needs::Read, &[&value], &cache_argument);
    let (key, cache) = (key::code(&cached.options, function), cache(cached));
    let view = cached.view_for(Purpose::Read);
    let peek = if function.is_blocking() { quote!(peek_blocking) } else { quote!(peek) };
    let body = quote! {
        let __larder_key = #key;
        #cache
        #larder::__private::#peek::<#value>(#view, &__larder_key)
    };
    let ty = answer(cached, &quote!(#larder::Result<::core::option::Option<#value>>));
    let signature = quote!(fn peek #params (#(#inputs),*) -> #ty #clause);
    companion(cached, &doc, &signature, &body)
}

fn put(cached: &Cached) -> TokenStream {
    let (function, larder) = (&cached.function, cached.larder());
    let doc = format!(
        "Stores `value` as that of a call of `{}`, with its options.",
        function.signature.ident.unraw()
    );
    let value = function.output.value(larder);
    let (params, mut inputs, clause) =
        key_signature(cached, Needs::Write, &[&value], &cache_argument(cached));
    inputs.push(quote!(__larder_value: #value));
    let (key, cache) = (key::code(&cached.options, function), cache(cached));
    let view = cached.view_for(Purpose::Write);
    let store = if function.is_blocking() { quote!(store_blocking) } else { quote!(store) };
    let tagged = cached.tagged_write();
    let body = quote! {
        let __larder_key = &#key;
        #cache
        let __larder_view = #view;
        #tagged
        #larder::__private::#store::<#value>(__larder_view, __larder_key, __larder_value)
    };
    let ty = answer(cached, &quote!(#larder::Result<()>));
    let signature = quote!(fn put #params (#(#inputs),*) -> #ty #clause);
    companion(cached, &doc, &signature, &body)
}

/// A companion that waits for the cache.
fn companion(
    cached: &Cached,
    doc: &str,
    signature: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let (visibility, quiet) = (&cached.function.visibility, quiet());
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = ""]
        #[doc = "Those of the cache, or of the function if it is run."]
        #quiet
        #visibility #signature { #body }
    }
}

/// What a companion returns that asks the cache for `ty`.
fn answer(cached: &Cached, ty: &TokenStream) -> TokenStream {
    if cached.function.is_blocking() { ty.clone() } else { future(ty) }
}

/// The future of a companion. One type for all functions: an `async fn` would be a type of its own,
/// which takes the compiler longer than all else in it.
fn future(ty: &TokenStream) -> TokenStream {
    quote! {
        ::core::pin::Pin<::std::boxed::Box<
            dyn ::core::future::Future<Output = #ty> + ::core::marker::Send
        >>
    }
}

/// `cache: &AsyncCacheWrapper`, for a function with a cache of its own. A method has `self`.
fn cache_argument(cached: &Cached) -> TokenStream {
    let larder = cached.larder();
    if cached.options.cache.is_none() || cached.home == Home::Impl {
        return TokenStream::new();
    }
    if cached.function.is_blocking() {
        quote!(__larder_cache: &#larder::CacheWrapper)
    } else {
        quote!(__larder_cache: &#larder::AsyncCacheWrapper)
    }
}

/// The cache of a companion, as a statement.
fn cache(cached: &Cached) -> TokenStream {
    let larder = cached.larder();
    let is_blocking = cached.function.is_blocking();
    let wrapper = if is_blocking { quote!(CacheWrapper) } else { quote!(AsyncCacheWrapper) };
    match (&cached.options.cache, cached.home) {
        (Some(_), Home::Enum | Home::Nowhere) => TokenStream::new(),
        (Some(cache), Home::Impl) => {
            let cache = key::with_patterns(&key::borrowed(cache), &cached.function);
            quote!(let __larder_cache: &#larder::#wrapper = #cache;)
        }
        (None, _) if is_blocking => quote!(let __larder_cache = #larder::cached();),
        (None, _) => quote!(let __larder_cache = #larder::async_cached();),
    }
}

/// What a companion makes of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Key,
    /// The key, and the options of a read.
    Read,
    /// The key, the options of a write, and tags.
    Write,
}

/// The generics, arguments and where-clause of a companion that needs only what `needs` is made of.
fn key_signature(
    cached: &Cached,
    needs: Needs,
    types: &[&TokenStream],
    cache: &TokenStream,
) -> (TokenStream, Vec<TokenStream>, Option<syn::WhereClause>) {
    let (function, options) = (&cached.function, &cached.options);
    let parts = match cached.home {
        Home::Impl => key::parts_with_cache(options, function),
        Home::Enum | Home::Nowhere => key::parts(options, function),
    };
    let in_options = |purpose| key::parts_in(&options.expressions(purpose), function);
    let more = match needs {
        Needs::Key => Vec::new(),
        Needs::Read => in_options(Purpose::Read),
        Needs::Write => {
            [in_options(Purpose::Write), key::parts_of_tags(options, function)].concat()
        }
    };
    let is_part =
        |argument: &&Argument| parts.iter().chain(&more).any(|part| std::ptr::eq(*part, *argument));
    let parts: Vec<&Argument> = function.arguments.iter().filter(is_part).collect();
    let mut inputs: Vec<TokenStream> = Vec::new();
    if cached.home == Home::Impl && function.has_receiver() {
        inputs.push(key_receiver(cached));
    }
    if !cache.is_empty() {
        inputs.push(cache.clone());
    }
    let typed = parts.iter().filter(|part| !part.is_self);
    inputs.extend(typed.map(|part| part.declared()));
    let mut used: TokenStream = inputs.iter().cloned().collect();
    types.iter().for_each(|ty| ty.to_tokens(&mut used));
    let cache_of_method = if cached.home == Home::Impl { &options.cache } else { &None };
    used.extend(key::parts_in_expressions(options, &[&options.namespace, cache_of_method]));
    used.extend(match needs {
        Needs::Key => key::constants_in(options, function, &[]),
        Needs::Read => {
            [key::constants_in(options, function, &[]), options.expressions(Purpose::Read)]
                .into_iter()
                .collect()
        }
        Needs::Write => [
            key::constants_in(options, function, &options.tags),
            options.expressions(Purpose::Write),
            key::expressions_of_tags(options),
        ]
        .into_iter()
        .collect(),
    });
    let generics = generics::used_in(&function.signature.generics, &used);
    (params(&generics), inputs, generics.where_clause)
}

/// What a companion of a method needs of `self`: to look at it.
fn key_receiver(cached: &Cached) -> TokenStream {
    let receiver = cached.function.signature.inputs.first();
    let Some(FnArg::Receiver(receiver)) = receiver else { return TokenStream::new() };
    // The word itself, as a macro that passed it on knows no other.
    let word = &receiver.self_token;
    match &receiver.kind {
        syn::ReceiverKind::Typed(_, ty) if matches!(**ty, Type::Reference(_)) => {
            receiver.to_token_stream()
        }
        syn::ReceiverKind::Typed(_, ty) => quote!(#word: &#ty),
        _ => quote!(&#word),
    }
}
