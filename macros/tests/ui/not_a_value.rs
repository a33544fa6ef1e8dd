#[larder::cached(key = "user:{id}")]
async fn nothing(id: u64) {
    let _ = id;
}

#[larder::cached(key = "user:{id}")]
async fn reference(id: u64) -> &'static str {
    let _ = id;
    "text"
}

#[larder::cached(key = "user:{id}")]
fn unnamed(id: u64) -> impl Iterator<Item = u64> {
    std::iter::once(id)
}

fn main() {}
