//! The function below an attribute. Its body stays a list of tokens: errors point into it, and
//! editors complete in it, also while it cannot be parsed.

use crate::argument::{Argument, contains, contains_impl, ungrouped};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, FnArg, GenericArgument, LitStr, Path, PathArguments, Result, ReturnType, Safety,
    Signature, Token, Type, TypeParamBound, Visibility,
};

/// A function with a body.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    /// The braces and what is in them.
    pub(crate) body: TokenTree,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) runs: Runs,
    /// What a call gives in the end: for an async function the output of its future.
    pub(crate) output: Output,
}

/// How a function runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// `async fn`.
    Async,
    /// A plain `fn`.
    Blocking,
    /// A `fn` that returns a boxed future, as `#[async_trait]` makes it.
    Boxed,
    /// A `fn` that returns `impl Future`.
    Future,
}

/// What a function returns.
pub(crate) struct Output {
    pub(crate) ty: Type,
    /// The arguments of a type that is called `Result`.
    result: Option<Vec<Type>>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !begins_function(input) {
            let message =
                "the attribute is for functions: in an `impl`, write it above each method";
            return Err(input.error(message));
        }
        let signature: Signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(input.error("the attribute needs a function with a body"));
        }
        let body: TokenTree = input.parse()?;
        let receivers_and_more = signature.inputs.iter().enumerate();
        let arguments = receivers_and_more.map(|(position, argument)| match argument {
            FnArg::Typed(typed) => Argument::typed(typed, position),
            FnArg::Receiver(receiver) => Argument::receiver(receiver),
        });
        let arguments = arguments.collect();
        let (runs, ty) = returned(&signature)?;
        let output = Output { result: result_arguments(&ty), ty };
        Ok(Self { attributes, visibility, signature, body, arguments, runs, output })
    }
}

/// Whether `fn` follows, after `const`, `async` and other words before it.
fn begins_function(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    while ahead.peek(Token![const])
        || ahead.peek(Token![async])
        || ahead.peek(Token![unsafe])
        || ahead.peek(Token![extern])
        || ahead.peek(LitStr)
    {
        if ahead.parse::<TokenTree>().is_err() {
            return false;
        }
    }
    ahead.peek(Token![fn])
}

impl Function {
    /// Refuses functions whose calls cannot be replaced.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |tokens: &dyn ToTokens, message: &str| {
            Err(syn::Error::new_spanned(tokens.to_token_stream(), message))
        };
        if let Some(token) = &self.signature.constness {
            return refuse(token, "a `const fn` cannot use a cache");
        }
        if let Some(variadic) = &self.signature.variadic {
            return refuse(variadic, "a variadic function cannot be cached");
        }
        let mut attributes = self.signature.inputs.iter().flat_map(|input| match input {
            FnArg::Receiver(receiver) => &receiver.attrs,
            FnArg::Typed(typed) => &typed.attrs,
        });
        if let Some(condition) = attributes.find(|attribute| attribute.path().is_ident("cfg")) {
            return refuse(
                condition,
                "an argument under `cfg` cannot be passed on: write the function twice, each under its `cfg`",
            );
        }
        Ok(())
    }

    /// Refuses functions whose calls cannot be left out.
    pub(crate) fn check_cacheable(&self) -> Result<()> {
        self.check()?;
        match &self.signature.safety {
            Safety::Unsafe(token) => Err(syn::Error::new_spanned(
                token,
                "an `unsafe fn` cannot be cached: its caller promises something for each call",
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_blocking(&self) -> bool {
        self.runs == Runs::Blocking
    }

    /// Whether the function is inside an `impl` or `trait`, as far as an attribute can see it:
    /// `#[async_trait]` adds a lifetime. A body with an `impl` of its own may say `Self` anywhere.
    pub(crate) fn is_method(&self) -> bool {
        let mut signature = self.signature.inputs.to_token_stream();
        self.signature.output.to_tokens(&mut signature);
        self.signature.generics.to_tokens(&mut signature);
        self.signature.generics.where_clause.to_tokens(&mut signature);
        let body = TokenStream::from(self.body.clone());
        let says_self = contains(&body, "Self") && !contains(&body, "impl");
        self.has_receiver()
            || contains(&signature, "Self")
            || contains(&signature, "async_trait")
            || says_self
    }

    pub(crate) fn has_receiver(&self) -> bool {
        self.arguments.iter().any(|argument| argument.is_self)
    }

    /// The names of the generic types.
    pub(crate) fn types(&self) -> impl Iterator<Item = &Ident> {
        self.signature.generics.type_params().map(|param| &param.ident)
    }

    /// The names of the generic constants.
    pub(crate) fn constants(&self) -> impl Iterator<Item = &Ident> {
        self.signature.generics.const_params().map(|param| &param.ident)
    }

    /// The signature with plain names for arguments.
    pub(crate) fn outer_signature(&self) -> TokenStream {
        let signature = &self.signature;
        let Signature { constness, asyncness, abi, ident, generics, output, .. } = signature;
        let clause = &generics.where_clause;
        let arguments = self.declared();
        let params = params(generics);
        quote!(#constness #asyncness #abi fn #ident #params (#(#arguments),*) #output #clause)
    }

    /// The arguments with plain names, as a signature declares them.
    pub(crate) fn declared(&self) -> Vec<TokenStream> {
        let inputs = self.signature.inputs.iter().zip(&self.arguments);
        let declared = inputs.map(|(input, argument)| match input {
            FnArg::Receiver(receiver) => receiver.to_token_stream(),
            FnArg::Typed(_) => argument.declared(),
        });
        declared.collect()
    }

    /// The body as a future, in place, after the statements `patterns`: it may use `self`, `return` and `?`.
    pub(crate) fn body_future(&self, patterns: &TokenStream) -> TokenStream {
        let (body, ty) = (&self.body, &self.output.ty);
        // The type of the block, for `?` and `return` in the body.
        let typed = (!contains_impl(ty)).then(|| {
            quote! {
                if let ::core::option::Option::Some(__larder_typed) =
                    ::core::option::Option::None::<#ty>
                {
                    return __larder_typed;
                }
            }
        });
        let signature_output = &self.signature.output;
        match self.runs {
            Runs::Boxed => {
                quote!(async move { #patterns (move || #signature_output #body)().await })
            }
            Runs::Future => quote!(async move { #patterns (move || #body)().await }),
            Runs::Async | Runs::Blocking => quote!(async move { #patterns #typed #body }),
        }
    }

    /// The body as a closure, in place, after the statements `patterns`.
    pub(crate) fn body_closure(&self, patterns: &TokenStream) -> TokenStream {
        let (body, output) = (&self.body, &self.output.ty);
        let output = (!contains_impl(output)).then(|| quote!(-> #output));
        quote!(move || #output { #patterns #body })
    }

    /// Takes the arguments apart, as the function's own patterns do.
    pub(crate) fn patterns(&self) -> TokenStream {
        let inputs = self.signature.inputs.iter().zip(&self.arguments);
        inputs
            .filter_map(|(input, argument)| {
                let FnArg::Typed(typed) = input else { return None };
                let (pattern, name) = (&typed.pat, &argument.name);
                let is_plain = argument.pattern.is_none()
                    && pattern.to_token_stream().into_iter().count() == 1;
                (!is_plain).then(|| quote!(let #pattern = #name;))
            })
            .collect()
    }
}

/// `<…>` of a declaration.
pub(crate) fn params(generics: &syn::Generics) -> TokenStream {
    let params = &generics.params;
    if params.is_empty() { TokenStream::new() } else { quote!(<#params>) }
}

impl Output {
    pub(crate) fn is_result(&self) -> bool {
        self.result.is_some()
    }

    /// The type of the value that is stored.
    pub(crate) fn value(&self, larder: &Path) -> TokenStream {
        let ty = &self.ty;
        match self.result.as_deref() {
            None => quote!(#ty),
            Some([value, _]) => quote!(#value),
            Some(_) => quote!(<#ty as #larder::__private::Fallible>::Ok),
        }
    }

    /// The type of the value that is stored, as far as it is written.
    pub(crate) fn written_value(&self) -> &Type {
        match self.result.as_deref() {
            Some([value, ..]) => value,
            _ => &self.ty,
        }
    }

    pub(crate) fn error(&self, larder: &Path) -> TokenStream {
        let ty = &self.ty;
        match self.result.as_deref() {
            Some([_, error]) => quote!(#error),
            _ => quote!(<#ty as #larder::__private::Fallible>::Err),
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.ty
            .to_token_stream()
            .into_iter()
            .next()
            .map_or_else(Span::call_site, |token| token.span())
    }
}

/// How a function runs, and what it gives in the end.
fn returned(signature: &Signature) -> Result<(Runs, Type)> {
    let ty = match &signature.output {
        ReturnType::Default => syn::parse_quote!(()),
        ReturnType::Type(_, ty) => ungrouped(ty).clone(),
    };
    if signature.asyncness.is_some() {
        return Ok((Runs::Async, ty));
    }
    if let Type::ImplTrait(future) = &ty
        && let Some(output) = future_output(future.bounds.iter())
    {
        return Ok((Runs::Future, output));
    }
    if let Some(output) = boxed_output(&ty) {
        return Ok((Runs::Boxed, output));
    }
    Ok((Runs::Blocking, ty))
}

/// `T` of `Pin<Box<dyn Future<Output = T>>>`, also by the name that it has in the crate `futures`.
fn boxed_output(ty: &Type) -> Option<Type> {
    let named = one_argument(ty, "BoxFuture").or_else(|| one_argument(ty, "LocalBoxFuture"));
    if let Some(output) = named {
        return Some(output.clone());
    }
    let boxed = one_argument(ty, "Pin")?;
    match one_argument(ungrouped(boxed), "Box").map(ungrouped)? {
        Type::TraitObject(object) => future_output(object.bounds.iter()),
        _ => None,
    }
}

fn one_argument<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn future_output<'b>(mut bounds: impl Iterator<Item = &'b TypeParamBound>) -> Option<Type> {
    bounds.find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let last = bound.path.segments.last().filter(|last| last.ident == "Future")?;
        let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(output) if output.ident == "Output" => {
                Some(output.ty.clone())
            }
            _ => None,
        })
    })
}

/// The arguments of a type that is called `Result`.
fn result_arguments(ty: &Type) -> Option<Vec<Type>> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Some(Vec::new()) };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    });
    Some(types.collect())
}
