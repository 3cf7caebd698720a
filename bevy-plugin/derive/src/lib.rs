//! `derive(Quantized)`: what a component's fields mean, and how precisely each crosses the mesh.
//!
//! Part of [`bevy_peerflock`](https://github.com/peerflock/peerflock), which documents the attributes and exports the macro; use
//! it from there.

mod expand;
mod field;

use proc_macro::TokenStream;

/// Says how precisely each field crosses the mesh. See the trait of the same name in `bevy_peerflock` for the attributes.
#[proc_macro_derive(Quantized, attributes(quantized))]
pub fn derive_quantized(input: TokenStream) -> TokenStream {
    match syn::parse(input).and_then(|input| expand::expand(&input)) {
        Ok(code) => code.into(),
        Err(error) => error.into_compile_error().into(),
    }
}
