//! How a load that has a task of its own clones the arguments that its function borrows.

use std::borrow::Borrow;

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
impl<T: ToOwned + ?Sized> Lend for T {
    type Owned = T::Owned;

    fn lend(&self) -> T::Owned {
        self.to_owned()
    }
}

/// Borrows an owned argument, as the function takes it.
pub fn borrowed<T: Lend + ?Sized>(owned: &T::Owned) -> &T {
    owned.borrow()
}
