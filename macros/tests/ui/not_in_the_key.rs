#[larder::cached(key = "page:{id}")]
async fn page(id: u64, lang: &str) -> String {
    format!("{id} {lang}")
}

#[larder::cached(key = "page")]
fn without_a_hole(id: u64) -> u64 {
    id
}

fn main() {}
