//! Reading values whose bytes lie: how many there are, and how deep they are nested, is not believed before it is seen.
//!
//! bincode bounds what a value takes as bytes. It does not bound what serde makes room for when a sequence claims a length (a MiB),
//! how often a sequence of nothing goes round (as often as it claims), nor how deep a type that holds itself goes (until the stack ends
//! and the process with it). So this stands between the two, whatever the type: it passes everything on, and counts.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// How deep values may be nested. Each struct, option, variant and element is one more.
const DEPTH_MAX: u32 = 64;
/// Most elements of all sequences and maps together: none honest is shorter than a byte.
const ELEMENTS_MAX: usize = super::VALUE_BYTES_MAX;
/// For so many elements room is made at once, whatever a sequence claims.
const ROOM_MAX: usize = 32;

/// A value that was read so.
#[derive(Debug)]
pub(super) struct Frugal<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Frugal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seen = Seen::default();
        T::deserialize(Counting { inner: deserializer, seen: &seen }).map(Self)
    }
}

/// What was seen of a value so far.
#[derive(Debug, Default)]
struct Seen {
    depth: Cell<u32>,
    elements: Cell<usize>,
}

impl Seen {
    fn deeper<T, E: Error>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let depth = self.depth.get();
        if depth >= DEPTH_MAX {
            return Err(E::custom("nested too deep"));
        }
        self.depth.set(depth + 1);
        let result = read();
        self.depth.set(depth);
        result
    }

    fn element<E: Error>(&self) -> Result<(), E> {
        self.elements.set(self.elements.get() + 1);
        if self.elements.get() > ELEMENTS_MAX { Err(E::custom("too many elements")) } else { Ok(()) }
    }
}

/// A deserializer, visitor, seed or access that passes everything on and counts.
struct Counting<'s, T> {
    inner: T,
    seen: &'s Seen,
}

/// The same of a visitor of a sequence or map whose length the bytes tell: its elements count.
struct Measured<'s, V>(Counting<'s, V>);

impl<'s, T> Counting<'s, T> {
    fn around<U>(&self, inner: U) -> Counting<'s, U> {
        Counting { inner, seen: self.seen }
    }
}

macro_rules! pass_on {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Counting<'_, D> {
    type Error = D::Error;

    // What holds nothing else.
    pass_on! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_ignored_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_option(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = Measured(self.around(visitor));
        self.inner.deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, name: &'static str, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = Measured(self.around(visitor));
        self.inner.deserialize_map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.around(visitor);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counting<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let (seen, inner) = (self.seen, self.around(inner));
        seen.deeper(|| self.inner.visit_some(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let (seen, inner) = (self.seen, self.around(inner));
        seen.deeper(|| self.inner.visit_newtype_struct(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let access = Elements { counted: false, inner: self.around(inner) };
        self.inner.visit_seq(access)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let access = Elements { counted: false, inner: self.around(inner) };
        self.inner.visit_map(access)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let access = self.around(inner);
        self.inner.visit_enum(access)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Measured<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.inner.expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let access = Elements { counted: true, inner: self.0.around(inner) };
        self.0.inner.visit_seq(access)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let access = Elements { counted: true, inner: self.0.around(inner) };
        self.0.inner.visit_map(access)
    }
}

/// The elements of a sequence, map, tuple or struct.
struct Elements<'s, A> {
    counted: bool,
    inner: Counting<'s, A>,
}

impl<'s, A> Elements<'s, A> {
    fn next<E: Error>(&self) -> Result<(), E> {
        if self.counted { self.inner.seen.element() } else { Ok(()) }
    }

    fn room(&self, claimed: Option<usize>) -> Option<usize> {
        claimed.map(|claimed| claimed.min(ROOM_MAX))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.next()?;
        let seed = self.inner.around(seed);
        self.inner.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.room(self.inner.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.next()?;
        let seed = self.inner.around(seed);
        self.inner.inner.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.inner.around(seed);
        self.inner.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.room(self.inner.inner.size_hint())
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Counting<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        let (seen, inner) = (self.seen, self.around(inner));
        seen.deeper(|| self.inner.deserialize(inner))
    }
}

impl<'de, 's, A: EnumAccess<'de>> EnumAccess<'de> for Counting<'s, A> {
    type Error = A::Error;
    type Variant = Counting<'s, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let seen = self.seen;
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Counting { inner, seen }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Counting<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.around(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.around(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.around(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
