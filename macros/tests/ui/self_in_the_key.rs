#[derive(Clone)]
struct Shop;

impl Shop {
    #[larder::cached]
    async fn without_key(&self, id: u64) -> u64 {
        id
    }

    #[larder::cached(key = "price:{id}")]
    async fn not_in_the_key(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
