//! Values near, in front of a store that is far. What decides is here, and the simulation that
//! tests it; the layer around both is not built yet, so this module is compiled for tests only.
//!
//! - `core`: what may be served and what may be kept: no I/O, no tasks, no clock
//! - `model`: a simulation of many nodes before one store
//! - `map`: the near store of the tests

mod core;
mod map;
mod model;
