//! `#[cached]`: the checks, and the function that people call.

use crate::argument::{self, Argument, Taking, contains_impl, contains_reference};
use crate::attributes::Attributes;
use crate::companions;
use crate::function::{Function, Runs};
use crate::generics;
use crate::key;
use crate::lints;
use crate::options::{Errors, Options, Purpose};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Path, Result, Type, Visibility};

/// A function under `#[cached]`, with what its code needs to know.
pub(crate) struct Cached {
    pub(crate) options: Options,
    pub(crate) function: Function,
    pub(crate) attributes: Attributes,
    pub(crate) home: Home,
    /// Whether the call carries its load.
    pub(crate) is_here: bool,
}

/// Where the companions of a function are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// In an enum of the function's name.
    Enum,
    /// In the method's own `impl`, with the method's name before theirs.
    Impl,
    /// Nowhere: the `impl` of a trait holds the methods of the trait only.
    Nowhere,
}

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let function: Function = syn::parse2(item)?;
    let is_future = matches!(function.runs, Runs::Boxed | Runs::Future);
    let is_here = (options.here.is_some() && !function.is_blocking()) || is_future;
    let has_no_home =
        options.here.is_some() && matches!(function.visibility, Visibility::Inherited);
    let home = match function.is_method() {
        false => Home::Enum,
        true if is_future || has_no_home => Home::Nowhere,
        true => Home::Impl,
    };
    let attributes = Attributes::new(&function.attributes);
    let cached = Cached { options, function, attributes, home, is_here };
    cached.check()?;
    let outer = cached.outer();
    let companions = companions::code(&cached);
    Ok(quote!(#outer #companions))
}

impl Cached {
    fn check(&self) -> Result<()> {
        self.function.check_cacheable()?;
        self.check_output()?;
        self.check_here()?;
        self.check_attributes()?;
        if let Some((span, _)) = self.options.errors
            && !self.function.output.is_result()
        {
            return Err(syn::Error::new(span, "`errors` is for functions that return a `Result`"));
        }
        key::check(&self.options, &self.function)?;
        if self.is_detached() {
            self.function.arguments.iter().try_for_each(check_taking)?;
        }
        Ok(())
    }

    fn check_output(&self) -> Result<()> {
        let output = &self.function.output;
        let refuse = |message: &str| Err(syn::Error::new(output.span(), message));
        match argument::ungrouped(&output.ty) {
            Type::Tuple(tuple) if tuple.elems.is_empty() => {
                let ident = &self.function.signature.ident;
                Err(syn::Error::new(
                    ident.span(),
                    "the function returns nothing that could be cached",
                ))
            }
            _ if contains_reference(output.written_value()) => {
                refuse("a reference cannot be cached: return an owned value, or an `Arc`")
            }
            ty if contains_impl(ty) => refuse(
                "`impl Trait` cannot be cached: the value that is read back needs a type with a name",
            ),
            Type::Never(_) => refuse("the function never returns a value"),
            _ => Ok(()),
        }
    }

    /// The body of a method in the `impl` of a trait is in place, and no function of its own.
    fn check_attributes(&self) -> Result<()> {
        match &self.attributes.working {
            Some(attribute) if self.home == Home::Nowhere => {
                let name = attribute.to_token_stream().to_string().replace(' ', "");
                let message = format!(
                    "`{name}` would have no function to work on: write it above the attribute of larder"
                );
                Err(syn::Error::new_spanned(attribute, message))
            }
            _ => Ok(()),
        }
    }

    fn check_here(&self) -> Result<()> {
        // A blocking method of a trait says with `here` that nothing can stand beside it.
        if let Some(span) = self.options.here
            && self.function.is_blocking()
            && self.home != Home::Nowhere
        {
            let message = "a blocking function runs in its caller anyway: `here` is for async \
                           functions, and for methods in the `impl` of a trait";
            return Err(syn::Error::new(span, message));
        }
        if !self.is_here {
            return Ok(());
        }
        for (name, _) in &self.options.view {
            if name == "soft_timeout" || name == "refresh_ahead" {
                let message = format!(
                    "`{name}` needs a load that goes on without its caller, and {} ends with it",
                    if self.options.here.is_some() { "`here`" } else { "the load of this method" }
                );
                return Err(syn::Error::new(name.span(), message));
            }
        }
        Ok(())
    }

    /// Whether the load has a task of its own.
    pub(crate) fn is_detached(&self) -> bool {
        !self.is_here && !self.function.is_blocking()
    }

    pub(crate) fn larder(&self) -> &Path {
        &self.options.larder
    }

    /// How the companion `name` is called here.
    pub(crate) fn companion(&self, name: &str) -> Ident {
        let function = self.function.signature.ident.unraw();
        match self.home {
            Home::Enum => Ident::new(name, Span::call_site()),
            Home::Impl | Home::Nowhere => {
                let name = name.strip_prefix("__larder_").map_or_else(
                    || format!("{function}_{name}"),
                    |name| format!("__larder_{function}_{name}"),
                );
                Ident::new(&name, Span::call_site())
            }
        }
    }

    /// The path to a companion from the function.
    pub(crate) fn path(&self, name: &str) -> TokenStream {
        let companion = self.companion(name);
        match self.home {
            Home::Enum => {
                let function = &self.function.signature.ident;
                quote!(#function::#companion)
            }
            Home::Impl | Home::Nowhere => quote!(Self::#companion),
        }
    }

    pub(crate) fn names(&self) -> Vec<&Ident> {
        self.function.arguments.iter().map(|argument| &argument.name).collect()
    }

    /// The cache and the view of a call, as statements.
    pub(crate) fn view(&self) -> TokenStream {
        let (larder, is_blocking) = (self.larder(), self.function.is_blocking());
        let wrapper = if is_blocking { quote!(CacheWrapper) } else { quote!(AsyncCacheWrapper) };
        let cache = match &self.options.cache {
            None if is_blocking => quote!(#larder::cached()),
            None => quote!(#larder::async_cached()),
            Some(cache) if self.moves(cache) => quote! {{
                let __larder_cache: &#larder::#wrapper = &(#cache);
                &::core::clone::Clone::clone(__larder_cache)
            }},
            Some(cache) => key::borrowed(cache),
        };
        let cache = key::with_patterns(&cache, &self.function);
        let view = self.view_for(Purpose::Call);
        quote! {
            let __larder_cache: &#larder::#wrapper = #cache;
            let __larder_view = #view;
        }
    }

    /// The end of a call whose value needs no wait, as a statement. Without tags the call itself
    /// looks first.
    fn at_hand(&self) -> TokenStream {
        if self.options.tags.is_empty() {
            return TokenStream::new();
        }
        let (output, larder) = (&self.function.output, self.larder());
        let look = match (self.function.is_blocking(), self.is_here) {
            (true, _) => "at_hand_blocking",
            (false, true) => "at_hand_here",
            (false, false) => "at_hand",
        };
        let span = self.output_span();
        let (look, value) = (Ident::new(look, span), output.value(larder));
        let found = match output.is_result() {
            true => quote!(::core::result::Result::Ok(__larder_found)),
            false => quote!(__larder_found),
        };
        quote_spanned! {span=>
            let __larder_view = match #larder::__private::#look::<#value>(
                __larder_view, __larder_key
            ) {
                ::core::ops::ControlFlow::Break(__larder_found) => return #found,
                ::core::ops::ControlFlow::Continue(__larder_view) => __larder_view,
            };
        }
    }

    /// `__larder_view` with the tags of the call, as statements.
    pub(crate) fn tagged(&self) -> TokenStream {
        if self.options.tags.is_empty() {
            return TokenStream::new();
        }
        let (larder, tags) = (self.larder(), call_tags(self.larder(), &self.tags()));
        let tagged = match self.function.is_blocking() {
            true => quote!(tagged_blocking),
            false => quote!(tagged),
        };
        quote! {
            #tags
            let __larder_view = #larder::__private::#tagged(__larder_view, __larder_tags);
        }
    }

    /// [`tagged`](Self::tagged) for a write.
    pub(crate) fn tagged_write(&self) -> TokenStream {
        if self.options.tags.is_empty() {
            return TokenStream::new();
        }
        tagged_write(self.larder(), self.function.is_blocking(), &self.tags())
    }

    fn tags(&self) -> TokenStream {
        key::tags_code(&self.options, &self.function)
    }

    /// The view of `__larder_cache`, as an expression.
    pub(crate) fn view_for(&self, purpose: Purpose) -> TokenStream {
        let view = self.options.view_of(self.function.is_blocking(), purpose);
        key::with_patterns(&view, &self.function)
    }

    /// Whether the load takes an argument from which the cache is borrowed.
    fn moves(&self, cache: &Expr) -> bool {
        let cache = cache.to_token_stream();
        self.function.arguments.iter().any(|argument| {
            let is_shared = matches!(
                argument::ungrouped(&argument.ty),
                Type::Reference(reference) if reference.mutability.is_none()
            );
            !is_shared && argument.bound.iter().any(|name| key::mentions(&cache, name))
        })
    }

    /// The function that people call.
    fn outer(&self) -> TokenStream {
        let function = &self.function;
        let Attributes { outer, conditions, .. } = &self.attributes;
        let (visibility, signature) = (&function.visibility, function.outer_signature());
        let quiet = lints::quiet();
        let body = match self.home {
            Home::Nowhere => {
                let load = match function.is_blocking() {
                    true => function.body_closure(&function.patterns()),
                    false => function.body_future(&function.patterns()),
                };
                self.prepared(&TokenStream::new(), &self.call(&load))
            }
            _ if self.is_detached() => self.prepared(&TokenStream::new(), &companions::core(self)),
            Home::Enum | Home::Impl => self.shared_call(false),
        };
        let body = match function.runs {
            Runs::Async | Runs::Blocking => body,
            Runs::Boxed => quote!(::std::boxed::Box::pin(async move { #body })),
            Runs::Future => quote!(async move { #body }),
        };
        quote! {
            #(#conditions)*
            #(#outer)*
            #quiet
            #visibility #signature { #body }
        }
    }

    /// `call` after what it needs: `__larder_key`, and `__larder_view`, which `options` change.
    pub(crate) fn prepared(&self, options: &TokenStream, call: &TokenStream) -> TokenStream {
        let key = key::code(&self.options, &self.function);
        let (view, at_hand, tagged) = (self.view(), self.at_hand(), self.tagged());
        quote! {
            let __larder_key = &#key;
            #view
            #options
            #at_hand
            #tagged
            #call
        }
    }

    /// The call by a function that has companions and loads in its caller, or by `refresh`.
    pub(crate) fn shared_call(&self, is_forced: bool) -> TokenStream {
        let (call, names) = (self.path("__larder_call"), self.names());
        let turbofish = generics::turbofish(&self.function.signature.generics);
        let call = quote!(#call #turbofish (#(#names,)* #is_forced));
        if self.function.is_blocking() { call } else { quote!(#call.await) }
    }

    /// Which values are stored, as a function of a value.
    pub(crate) fn keep(&self) -> TokenStream {
        let larder = self.larder();
        match &self.options.only_if {
            Some(keep) => quote!(#keep),
            None => quote!(#larder::__private::every),
        }
    }

    /// The type of the function's error, and what makes one of an error of larder's.
    pub(crate) fn error(&self) -> (TokenStream, TokenStream) {
        let (output, larder) = (&self.function.output, self.larder());
        let (span, error) = (self.output_span(), output.error(larder));
        let errors = match self.options.errors.as_ref().map(|(_, errors)| errors) {
            None | Some(Errors::Clone) => quote_spanned!(span=> #larder::__private::own::<#error>),
            Some(Errors::Wrap) => quote_spanned!(span=> #larder::__private::wrap::<#error>),
            Some(Errors::By(function)) => function.to_token_stream(),
        };
        (error, errors)
    }

    /// An error in the types of the value or the error is shown at the function's return type.
    pub(crate) fn output_span(&self) -> Span {
        Span::call_site().located_at(self.function.output.span())
    }

    /// The call of the core, with `__larder_view` and `__larder_key`. `load` is a future; for a
    /// blocking function a closure, and for a load with a task of its own a function and its
    /// arguments.
    pub(crate) fn call(&self, load: &TokenStream) -> TokenStream {
        let (function, larder) = (&self.function, self.larder());
        let (value, keep, span) = (function.output.value(larder), self.keep(), self.output_span());
        let way = match (function.is_blocking(), self.is_here) {
            (true, _) => "call",
            (false, true) => "here",
            (false, false) => "detached",
        };
        let wait = if function.is_blocking() { quote!() } else { quote!(.await) };
        let more = match (function.is_blocking(), function.output.is_result()) {
            (true, false) => quote!(),
            (false, true) if self.is_detached() => quote!(, _, _),
            _ => quote!(, _),
        };
        // The future of a load that the call carries is in the caller's frame.
        let (pinned, load) = match self.is_here {
            false => (TokenStream::new(), load.clone()),
            true => (
                quote! {
                    let mut __larder_load =
                        ::core::pin::pin!(::core::option::Option::Some(#load));
                },
                quote!(__larder_load.as_mut()),
            ),
        };
        if !function.output.is_result() {
            let way = Ident::new(way, span);
            return quote_spanned! {span=>
                #pinned
                #larder::__private::#way::<#value, _ #more>(__larder_view, __larder_key, #load, #keep)#wait
            };
        }
        let way = format_ident!("try_{way}", span = span);
        let (error, errors) = self.error();
        quote_spanned! {span=>
            #pinned
            ::core::result::Result::map_err(
                #larder::__private::#way::<#value, #error #more>(
                    __larder_view, __larder_key, #load, #keep
                )#wait,
                #errors,
            )
        }
    }
}

/// The tags of a call, as statements.
fn call_tags(larder: &Path, tags: &TokenStream) -> TokenStream {
    quote! {
        let __larder_tags = &#tags;
        let __larder_tags = &#larder::__private::names(__larder_tags);
        let __larder_tags = &#larder::__private::call_tags(__larder_key, __larder_tags);
    }
}

/// `__larder_view` with the tags of a write, as statements.
pub(crate) fn tagged_write(larder: &Path, is_blocking: bool, tags: &TokenStream) -> TokenStream {
    let (tagged, view) = match is_blocking {
        true => (
            quote!(tagged_write_blocking),
            quote!(#larder::__private::blocking_view(&__larder_tagged)),
        ),
        false => (quote!(tagged_write), quote!(__larder_tagged.view())),
    };
    let tags = call_tags(larder, tags);
    quote! {
        #tags
        let __larder_tagged = #larder::__private::#tagged(__larder_view, __larder_tags);
        let __larder_view = #view;
    }
}

fn check_taking(argument: &Argument) -> Result<()> {
    let refuse = |message: String| Err(syn::Error::new_spanned(&argument.ty, message));
    let name = if argument.is_self { "self".to_owned() } else { argument.name.unraw().to_string() };
    let ty = argument
        .ty
        .to_token_stream()
        .to_string()
        .replace("& ", "&")
        .replace(" :: ", "::")
        .replace(" < ", "<")
        .replace(" >", ">");
    match argument.taking() {
        Taking::Whole | Taking::Clone(_) => Ok(()),
        Taking::Mutable => refuse(format!(
            "`{name}` is borrowed mutably, and the load goes on without its caller: say `here`"
        )),
        Taking::Borrows => refuse(format!(
            "`{ty}` borrows, and the load goes on without its caller: own it, or say `here`"
        )),
        Taking::Unnamed => refuse(format!(
            "`{ty}` has no name that the load could use: say `here`, or make the function generic"
        )),
    }
}
