struct Id(u64);

#[larder::cached(key = "user:{id}")]
fn get_user(id: Id) -> u64 {
    id.0
}

fn main() {}
