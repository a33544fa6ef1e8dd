//! What a load that has a task of its own clones of the arguments that its function borrows.

use std::borrow::Borrow;

/// What a cached function borrows, and its load owns: `&str` becomes a `String`, `&[T]` a `Vec`,
/// `&T` a clone.
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

/// The argument as the function takes it.
pub fn lent<T: Lend + ?Sized>(owned: &T::Owned) -> &T {
    owned.borrow()
}
