#[larder::cached(key = "row:{id}")]
async fn not_in_the_key<T: Default + larder::Cacheable>(id: u64) -> T {
    drop(id);
    T::default()
}

#[larder::cached(key = "row:{id}", skip(U))]
fn not_a_type<T: Default + larder::Cacheable>(id: u64) -> T {
    drop(id);
    T::default()
}

fn main() {}
