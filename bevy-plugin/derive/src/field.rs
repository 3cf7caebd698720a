//! One field's `#[quantized(..)]`: which precision it asks for, or what is wrong with it and what to do.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprRange, RangeLimits, Result};

const KEYS: &str = "`step = 0.01`, `range = 0.0..=100.0`, `degrees = 0.1`, `angle`, `direction` and `choice`";

/// How a field crosses the mesh.
pub(crate) enum Precision {
    /// As its type does by itself.
    Natural,
    /// Numbers in steps, in a range perhaps.
    Stepped { step: Expr, range: Option<(Expr, Expr)> },
    /// Whole numbers in a range.
    Within { min: Expr, max: Expr },
    /// A rotation that is off by so many degrees at most.
    Rotation { degrees: Expr },
    /// An angle in radians.
    Angle { degrees: Option<Expr> },
    /// A unit vector.
    Direction { degrees: Option<Expr> },
    /// A number that stands for something.
    Choice,
}

impl Precision {
    /// What the field's attributes say.
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut said = Said::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("quantized")) {
            attribute.parse_nested_meta(|meta| said.read(&meta))?;
        }
        said.decide()
    }

    /// The type of the precision, and the constant expression that makes it; `place` is where complaints about them belong.
    pub(crate) fn code(&self, place: Span) -> (TokenStream, TokenStream) {
        let krate = quote_spanned!(place=> ::bevy_peerflock::precision);
        let (name, call) = match self {
            Self::Natural => (quote_spanned!(place=> Natural), quote_spanned!(place=> Natural)),
            Self::Stepped { step, range: None } => (quote_spanned!(place=> Stepped), quote_spanned!(place=> Stepped::new(#step))),
            Self::Stepped { step, range: Some((min, max)) } => {
                (quote_spanned!(place=> Stepped), quote_spanned!(place=> Stepped::within(#step, #min, #max)))
            }
            Self::Within { min, max } => (quote_spanned!(place=> Within), quote_spanned!(place=> Within::new(#min, #max))),
            Self::Rotation { degrees } => (quote_spanned!(place=> Rotation), quote_spanned!(place=> Rotation::new(#degrees))),
            Self::Angle { degrees: None } => (quote_spanned!(place=> Angle), quote_spanned!(place=> Angle::DEFAULT)),
            Self::Angle { degrees: Some(degrees) } => {
                (quote_spanned!(place=> Angle), quote_spanned!(place=> Angle::new(#degrees)))
            }
            Self::Direction { degrees: None } => (quote_spanned!(place=> Direction), quote_spanned!(place=> Direction::DEFAULT)),
            Self::Direction { degrees: Some(degrees) } => {
                (quote_spanned!(place=> Direction), quote_spanned!(place=> Direction::new(#degrees)))
            }
            Self::Choice => (quote_spanned!(place=> Choice), quote_spanned!(place=> Choice)),
        };
        (quote_spanned!(place=> #krate::#name), quote_spanned!(place=> #krate::#call))
    }

    /// The precision in words that are the same in all builds of one source.
    pub(crate) fn text(&self) -> String {
        self.code(Span::call_site()).1.to_string().replace(":: bevy_peerflock :: precision :: ", "").replace(' ', "")
    }
}

/// The keys as they were written.
#[derive(Default)]
struct Said {
    step: Option<Expr>,
    range: Option<(Expr, Expr)>,
    degrees: Option<Expr>,
    /// `angle`, `direction` or `choice`.
    sort: Option<syn::Path>,
}

impl Said {
    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        match key.as_str() {
            "step" => once(&mut self.step, meta, meta.value()?.parse()?),
            "degrees" => once(&mut self.degrees, meta, meta.value()?.parse()?),
            "range" => once(&mut self.range, meta, ends(meta.value()?.parse()?)?),
            "angle" | "direction" | "choice" => once(&mut self.sort, meta, meta.path.clone()),
            _ => Err(meta.error(format!("there is no such precision; a field has {KEYS}"))),
        }
    }

    fn decide(self) -> Result<Precision> {
        let sort = self.sort.as_ref().and_then(|sort| sort.get_ident()).map(ToString::to_string);
        match (sort.as_deref(), self.step, self.range, self.degrees) {
            (None, None, None, None) => Ok(Precision::Natural),
            (None, Some(step), range, None) => Ok(Precision::Stepped { step, range }),
            (None, None, Some((min, max)), None) => Ok(Precision::Within { min, max }),
            (None, None, None, Some(degrees)) => Ok(Precision::Rotation { degrees }),
            (Some("angle"), None, None, degrees) => Ok(Precision::Angle { degrees }),
            (Some("direction"), None, None, degrees) => Ok(Precision::Direction { degrees }),
            (Some("choice"), None, None, None) => Ok(Precision::Choice),
            (Some("choice"), ..) => Err(wrong(&self.sort, "a choice is told exactly: leave the other keys away")),
            (Some(_), ..) => Err(wrong(
                &self.sort,
                "angles and directions have no `step` and no `range`: say `degrees = 0.1`, the largest error",
            )),
            (None, step, range, degrees) => Err(wrong(
                &step.or(degrees).or_else(|| range.map(|(min, _)| min)),
                "`degrees` is for rotations, angles and directions, `step` and `range` for other numbers: a field has one or the other",
            )),
        }
    }
}

fn once<T>(place: &mut Option<T>, meta: &ParseNestedMeta<'_>, value: T) -> Result<()> {
    if place.replace(value).is_some() {
        return Err(meta.error("said twice; a field is one of `angle`, `direction` and `choice`, and has each other key once"));
    }
    Ok(())
}

fn ends(range: Expr) -> Result<(Expr, Expr)> {
    let span = range.span();
    match range {
        Expr::Range(ExprRange { start: Some(start), end: Some(end), limits: RangeLimits::Closed(_), .. }) => Ok((*start, *end)),
        _ => Err(Error::new(span, "a range has both ends, and they belong to it: `range = -10.0..=10.0`")),
    }
}

fn wrong(place: &impl ToTokens, advice: &str) -> Error {
    Error::new_spanned(place, advice)
}
