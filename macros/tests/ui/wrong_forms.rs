#[larder::cached("user:{id}")]
fn no_name(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", here = true)]
async fn a_word_with_a_value(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", skip)]
async fn a_list_without_brackets(id: u64) -> u64 {
    id
}

#[larder::evicts(tags = "user:{id}")]
async fn a_list_with_a_value(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", crate = "larder")]
async fn a_path_as_text(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}")]
struct NoFunction;

struct Users;

#[larder::evicts("user:{id}")]
impl Users {}

#[larder::cached(key = "user:{id}")]
fn a_reference_within(id: u64) -> Result<Option<&'static str>, &'static str> {
    Ok((id > 0).then_some("text"))
}

fn main() {
    drop((NoFunction, Users));
}
