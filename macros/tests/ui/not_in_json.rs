#[derive(Clone)]
struct Db;

#[larder::cached]
fn get_user(db: &Db, id: u64) -> u64 {
    let _ = db;
    id
}

fn main() {}
