//! Whether a type parameter is one of a few known types.
//!
//! `TypeId` requires `'static` and cannot express "an `Arc` of anything", and stable Rust has no
//! specialization. The standard library has it: [`Fuse`](std::iter::Fuse) is documented to be a
//! no-op around an iterator that implements [`FusedIterator`]. So `Fuse` asks a fused iterator
//! again after its end, and asks no other iterator again. A probe is an iterator that is fused
//! exactly for the types in question, and that counts how often it is asked. The optimizer turns
//! the answer into a constant. Without this specialization in the standard library every answer
//! would be `false`: larder would be slower, and the tests below would fail.

use std::cell::Cell;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;

struct Probe<'a, T: ?Sized, Q> {
    asked: &'a Cell<u8>,
    question: PhantomData<(Q, PhantomData<T>)>,
}

impl<T: ?Sized, Q> Iterator for Probe<'_, T, Q> {
    type Item = ();

    #[inline(always)]
    fn next(&mut self) -> Option<()> {
        self.asked.set(self.asked.get() + 1);
        None
    }
}

#[inline(always)]
fn ask<T: ?Sized, Q>() -> bool {
    let asked = Cell::new(0);
    let mut probe = Probe::<T, Q> { asked: &asked, question: PhantomData }.fuse();
    probe.next();
    probe.next();
    asked.get() == 2
}

/// Whether cloning is a copy or a reference count, and runs no code of the user.
struct ClonesSilently;

/// Whether the type is one byte, or a reference to one byte.
struct IsByte;

macro_rules! answer_yes {
    ($question:ident: $($type:ty),*) => {$(
        impl FusedIterator for Probe<'_, $type, $question> {}
    )*};
}

answer_yes!(ClonesSilently: (), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);
answer_yes!(IsByte: u8, &u8);

impl<U: ?Sized> FusedIterator for Probe<'_, Arc<U>, ClonesSilently> {}
impl<U: ?Sized> FusedIterator for Probe<'_, Option<Arc<U>>, ClonesSilently> {}

#[cfg(feature = "memory")]
mod shape;

#[cfg(feature = "memory")]
pub(crate) use shape::{ListKind, is_number, list_kind};

/// Whether cloning a `T` is cheap and runs no code of the user, so that it may run under a lock.
#[inline(always)]
pub(crate) fn clones_silently<T>() -> bool {
    ask::<T, ClonesSilently>()
}

/// Whether a `T` is a byte or a reference to one.
#[inline(always)]
pub(crate) fn is_byte<T>() -> bool {
    ask::<T, IsByte>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Small(#[allow(dead_code, reason = "for its size")] u8);

    fn item_is_byte<I: IntoIterator>(_: I) -> bool {
        is_byte::<I::Item>()
    }

    #[test]
    fn handles_and_numbers_are_known_and_nothing_else_is() {
        assert!(clones_silently::<Arc<Small>>());
        assert!(clones_silently::<Arc<str>>());
        assert!(clones_silently::<Arc<dyn Fn() + Send>>());
        assert!(clones_silently::<Option<Arc<[u8]>>>());
        assert!(clones_silently::<u64>() && clones_silently::<char>() && clones_silently::<f32>());
        assert!(!clones_silently::<Small>(), "its Clone may be anything");
        assert!(!clones_silently::<Box<Small>>());
        assert!(!clones_silently::<Option<Small>>());
        assert!(!clones_silently::<String>());
    }

    #[test]
    fn bytes_are_known_behind_any_lifetime() {
        let bytes = vec![1u8, 2];
        assert!(item_is_byte(&bytes));
        assert!(item_is_byte(bytes.iter().copied()));
        assert!(!item_is_byte([1i8]));
        assert!(!item_is_byte([true].iter()));
        assert!(!item_is_byte([Small(1)].iter()));
        assert!(!item_is_byte([Box::new(1u8)].iter()));
    }
}
