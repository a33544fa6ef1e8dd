//! How a load that has a task of its own clones the arguments that its function borrows.

use std::borrow::Borrow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// A type that a cached function borrows and that its load owns: for `&str` the load owns a
/// `String`, for `&[T]` a `Vec`, for `&T` a clone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is borrowed by a cached function, and cannot be cloned",
    label = "the load goes on without its caller, and needs a `{Self}` of its own",
    note = "derive `Clone`; or take it by value or as an `Arc` (a method: `self: &Arc<Self>`); or say `here`: then the caller carries the load, which may borrow"
)]
pub trait Lend {
    type Owned: Borrow<Self>;

    fn lend(&self) -> Self::Owned;
}

#[diagnostic::do_not_recommend]
impl<T: Clone> Lend for T {
    type Owned = T;

    fn lend(&self) -> T {
        self.clone()
    }
}

impl<T: Clone> Lend for [T] {
    type Owned = Vec<T>;

    fn lend(&self) -> Vec<T> {
        self.to_vec()
    }
}

macro_rules! unsized_types {
    ($($type:ty => $owned:ty,)*) => {$(
        impl Lend for $type {
            type Owned = $owned;

            fn lend(&self) -> $owned {
                self.to_owned()
            }
        }
    )*};
}

unsized_types! {
    str => String,
    CStr => CString,
    OsStr => OsString,
    Path => PathBuf,
}

/// An argument that the function borrows, as the load owns it. A type of its own: with `T::Owned`
/// in a signature, the compiler would say that `Clone` is missing, and none of the words above.
pub struct Loan<T: Lend + ?Sized>(T::Owned);

impl<T: Lend + ?Sized> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").finish_non_exhaustive()
    }
}

/// Clones an argument for the load.
pub fn loan<T: Lend + ?Sized>(value: &T) -> Loan<T> {
    Loan(value.lend())
}

/// Borrows an owned argument, as the function takes it.
pub fn borrowed<T: Lend + ?Sized>(owned: &Loan<T>) -> &T {
    owned.0.borrow()
}
