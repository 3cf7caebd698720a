//! The code of an `impl Quantized`: fields one after the other; of an enum the variant first, then the fields of all variants.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Ident, Index, Result, Type};

use crate::field::Precision;

/// Most variants of an enum: more are taken for a mistake.
const VARIANTS_MAX: usize = 256;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "generic types are not derived: write `impl Quantized` by hand, or make a type without parameters",
        ));
    }
    if let Some(attribute) = input.attrs.iter().find(|attribute| attribute.path().is_ident("quantized")) {
        return Err(Error::new_spanned(attribute, "`#[quantized(..)]` stands at a field: it says how precise that one is"));
    }
    match &input.data {
        Data::Struct(data) => of_struct(&input.ident, &data.fields),
        Data::Enum(data) => of_enum(input, data),
        Data::Union(_) => Err(Error::new_spanned(&input.ident, "unions are not shared: use an enum")),
    }
}

/// One field of the type or of a variant.
struct Part {
    /// Its name, or its place.
    member: syn::Member,
    /// What it is bound to in a pattern.
    binding: Ident,
    /// The name of its precision.
    precision: Ident,
    kind: TokenStream,
    make: TokenStream,
    text: String,
    of: Type,
    /// Where complaints about it belong.
    place: Span,
}

fn parts(fields: &Fields, prefix: &str) -> Result<Vec<Part>> {
    let part = |(index, field): (usize, &syn::Field)| {
        let precision = Precision::of(&field.attrs)?;
        let place = Span::call_site().located_at(field.ty.span());
        let (kind, make) = precision.code(place);
        let member = field.ident.clone().map_or_else(|| Index::from(index).into(), syn::Member::from);
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        Ok(Part {
            member,
            binding: format_ident!("field_{index}"),
            precision: format_ident!("{prefix}FIELD_{index}"),
            kind,
            make,
            text: format!("{name}:{}", precision.text()),
            of: field.ty.clone(),
            place,
        })
    };
    fields.iter().enumerate().map(part).collect()
}

impl Part {
    /// The constant that holds its precision.
    fn constant(&self) -> TokenStream {
        let Self { precision, kind, make, .. } = self;
        quote_spanned!(self.place=> const #precision: #kind = #make;)
    }

    fn groups(&self) -> TokenStream {
        let Self { kind, of, .. } = self;
        quote_spanned!(self.place=> <#kind as Precision<#of>>::GROUPS)
    }

    fn write(&self) -> TokenStream {
        let Self { precision, binding, kind, of, .. } = self;
        quote_spanned!(self.place=> <#kind as Precision<#of>>::quantize(&#precision, #binding, parts.next(<#kind as Precision<#of>>::GROUPS));)
    }

    fn read(&self) -> TokenStream {
        let Self { precision, binding, kind, of, .. } = self;
        quote_spanned!(self.place=> let #binding = <#kind as Precision<#of>>::restore(&#precision, parts.next(<#kind as Precision<#of>>::GROUPS));)
    }

    /// `name: binding`, in a pattern and in an expression.
    fn bound(&self) -> TokenStream {
        let Self { member, binding, .. } = self;
        quote!(#member: #binding)
    }

    fn describe(&self) -> TokenStream {
        let Self { text, kind, of, .. } = self;
        quote_spanned! {self.place=>
            text.push_str(#text);
            <#kind as Precision<#of>>::describe(text);
            text.push(';');
        }
    }
}

fn of_struct(name: &Ident, fields: &Fields) -> Result<TokenStream> {
    let parts = parts(fields, "")?;
    if parts.is_empty() {
        return Err(Error::new_spanned(
            name,
            "it has no fields, so that nothing of it ever changes: register it with `replicate`, which takes serde's derives",
        ));
    }
    let (constants, groups) = (parts.iter().map(Part::constant), parts.iter().map(Part::groups));
    let (writes, reads) = (parts.iter().map(Part::write), parts.iter().map(Part::read));
    let (out, back) = (parts.iter().map(Part::bound), parts.iter().map(Part::bound));
    let describes = parts.iter().map(Part::describe);
    Ok(quote! {
        const _: () = {
            use ::bevy_peerflock::precision::{Groups, Parts, PartsMut, Precision};
            #(#constants)*
            const ALL: &Groups = &Groups::join(&[#(#groups),*]);

            impl ::bevy_peerflock::Quantized for #name {
                const GROUPS: &'static [::bevy_peerflock::Group] = ALL.as_slice();

                fn quantize(&self, fields: &mut [i32]) {
                    let Self { #(#out),* } = self;
                    let mut parts = PartsMut::new(fields);
                    #(#writes)*
                }

                fn restore(fields: &[i32]) -> Self {
                    let mut parts = Parts::new(fields);
                    #(#reads)*
                    Self { #(#back),* }
                }

                fn describe(text: &mut ::std::string::String) {
                    #(#describes)*
                }
            }
        };
    })
}

fn of_enum(input: &DeriveInput, data: &syn::DataEnum) -> Result<TokenStream> {
    let name = &input.ident;
    if data.variants.is_empty() || data.variants.len() > VARIANTS_MAX {
        return Err(Error::new_spanned(
            name,
            format!("an enum has 1 to {VARIANTS_MAX} variants: this one has {}", data.variants.len()),
        ));
    }
    let (mut constants, mut groups, mut writes, mut reads, mut describes) = (vec![], vec![], vec![], vec![], vec![]);
    for (index, variant) in data.variants.iter().enumerate() {
        let parts = parts(&variant.fields, &format!("VARIANT_{index}_"))?;
        let (ident, index, text) = (&variant.ident, index as i32, format!("|{}:", variant.ident));
        constants.extend(parts.iter().map(Part::constant));
        // The variants before this one have their places before this one's.
        let before: Vec<_> = groups.clone();
        groups.extend(parts.iter().map(Part::groups));
        let (out, back) = (parts.iter().map(Part::bound), parts.iter().map(Part::bound));
        let (write, read) = (parts.iter().map(Part::write), parts.iter().map(Part::read));
        let skip: Vec<_> = before.iter().map(|groups| quote!(let _ = parts.next(#groups);)).collect();
        let skip = if parts.is_empty() { vec![] } else { skip };
        writes.push(quote! {
            Self::#ident { #(#out),* } => {
                parts.set(#index);
                #(#skip)*
                #(#write)*
            }
        });
        // Any other number, too: it means the first variant.
        let pattern = if index == 0 { quote!(_) } else { quote!(#index) };
        reads.push(quote! {
            #pattern => {
                #(#skip)*
                #(#read)*
                Self::#ident { #(#back),* }
            }
        });
        let described = parts.iter().map(Part::describe);
        describes.push(quote! {
            text.push_str(#text);
            #(#described)*
        });
    }
    reads.rotate_left(1);
    Ok(quote! {
        const _: () = {
            #[allow(unused_imports, reason = "a fieldless enum needs fewer")]
            use ::bevy_peerflock::precision::{Groups, Parts, PartsMut, Precision};
            #(#constants)*
            const ALL: &Groups = &Groups::join(&[&[::bevy_peerflock::Group::Choice], #(#groups),*]);

            impl ::bevy_peerflock::Quantized for #name {
                const GROUPS: &'static [::bevy_peerflock::Group] = ALL.as_slice();

                fn quantize(&self, fields: &mut [i32]) {
                    // Of the variants that it is not, nothing is said.
                    fields.fill(0);
                    let mut parts = PartsMut::new(fields);
                    match self {
                        #(#writes)*
                    }
                }

                fn restore(fields: &[i32]) -> Self {
                    let mut parts = Parts::new(fields);
                    match parts.get() {
                        #(#reads)*
                    }
                }

                fn describe(text: &mut ::std::string::String) {
                    #(#describes)*
                }
            }
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the derive says of a type.
    fn said(text: &str) -> String {
        let input = syn::parse_str(text).unwrap();
        expand(&input).map_or_else(|error| error.to_string(), |code| code.to_string())
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        for (text, advice) in [
            ("struct A { #[quantized(stepp = 1.0)] a: f32 }", "a field has `step = 0.01`"),
            ("struct A { #[quantized(step = 1.0, step = 2.0)] a: f32 }", "said twice"),
            ("struct A { #[quantized(angle, choice)] a: f32 }", "one of `angle`, `direction` and `choice`"),
            ("struct A { #[quantized(angle, step = 1.0)] a: f32 }", "say `degrees = 0.1`"),
            ("struct A { #[quantized(direction, range = 0.0..=1.0)] a: Vec3 }", "say `degrees = 0.1`"),
            ("struct A { #[quantized(degrees = 1.0, step = 1.0)] a: Quat }", "one or the other"),
            ("struct A { #[quantized(degrees = 1.0, range = 0..=1)] a: Quat }", "one or the other"),
            ("struct A { #[quantized(choice, range = 0..=1)] a: u8 }", "leave the other keys away"),
            ("struct A { #[quantized(range = 0..9)] a: u8 }", "`range = -10.0..=10.0`"),
            ("struct A { #[quantized(range = ..=9)] a: u8 }", "both ends"),
            ("struct A { #[quantized(range = 9)] a: u8 }", "both ends"),
            ("#[quantized(step = 1.0)] struct A { a: f32 }", "stands at a field"),
            ("struct A<T>(T);", "by hand"),
            ("struct A;", "register it with `replicate`"),
            ("union A { a: u8 }", "use an enum"),
            ("enum A {}", "1 to 256 variants"),
        ] {
            let said = said(text);
            assert!(said.contains(advice), "{text}: {said}");
        }
    }

    #[test]
    fn what_peers_have_to_agree_on_is_in_the_code() {
        let code = said("struct Ship { #[quantized(step = 0.5, range = -1.0..=1.0)] x: f32, #[quantized(choice)] y: u8 }");
        assert!(code.contains("x:Stepped::within(0.5,-1.0,1.0)") && code.contains("y:Choice"), "{code}");
    }
}
