//! How values lie in memory, as far as the standard library's own types are concerned.

use super::{Probe, ask};
use std::collections::{BTreeSet, HashSet, LinkedList};
use std::iter::FusedIterator;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize,
};

/// Is it a number that lies where it is, or a reference to one?
struct IsNumber;

/// Is it a list that has an allocation for each element?
struct IsLinked;

/// Is it a set, whose table or tree is never full?
struct IsSparse;

macro_rules! numbers {
    ($($type:ty),*) => {
        answer_yes!(IsNumber: $($type, &$type),*);
    };
}

numbers!(bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);
numbers!(NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize);
numbers!(NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize);

impl<T> FusedIterator for Probe<'_, &LinkedList<T>, IsLinked> {}
impl<T, S> FusedIterator for Probe<'_, &HashSet<T, S>, IsSparse> {}
impl<T> FusedIterator for Probe<'_, &BTreeSet<T>, IsSparse> {}

/// Whether a `T` is a number, `bool` or `char` that lies where it is, or a reference to one.
#[inline(always)]
pub(crate) fn is_number<T: ?Sized>() -> bool {
    ask::<T, IsNumber>()
}

/// How a collection holds its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// One beside the other.
    Dense,
    /// With places between them.
    Sparse,
    /// Each by itself.
    Linked,
}

pub(crate) fn list_kind<T: ?Sized>() -> ListKind {
    match (ask::<T, IsLinked>(), ask::<T, IsSparse>()) {
        (true, _) => ListKind::Linked,
        (_, true) => ListKind::Sparse,
        _ => ListKind::Dense,
    }
}
