use std::rc::Rc;

#[larder::cached(key = "user:{id}")]
async fn get_user(id: u64) -> u64 {
    let shared = Rc::new(id);
    other(1).await;
    *shared
}

#[larder::cached(key = "other:{id}", here)]
async fn other(id: u64) -> u64 {
    id
}

fn main() {}
