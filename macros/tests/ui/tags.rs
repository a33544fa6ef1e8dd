#[larder::cached(key = "user:{id}", tags())]
async fn none(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", tags = "users")]
async fn no_parentheses(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", tags("users", ""))]
async fn empty(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", tags("user:{uid}"))]
async fn unknown(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", tags("of:{team}"))]
async fn only_in_a_tag(id: u64, team: &str) -> usize {
    team.len() + id as usize
}

#[larder::cached(key = "user:{id}", tags("{team}{id}"), skip(team))]
async fn nothing_between(id: u64, team: u64) -> u64 {
    id + team
}

#[larder::cached(key = "user:{id}", tags("{id:?}"))]
async fn format(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", tags("user:{result.id}"))]
async fn result(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{id}", tags("users"), tags("all"))]
async fn twice(id: u64) -> u64 {
    id
}

#[larder::evicts(tags(
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
))]
async fn too_many() {}

#[larder::evicts(tags("user:{result}"))]
async fn result_too(id: u64) -> u64 {
    id
}

#[larder::puts("user:{id}", tags("user:{uid}", "at:{result}"))]
async fn unknown_too(id: u64) -> u64 {
    id
}

fn main() {}
