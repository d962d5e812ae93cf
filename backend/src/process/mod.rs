//! This process as the operating system sees it, and those that it starts: environment variables, open files, process
//! groups, and folders of its own.

pub(crate) mod child_environment;
pub(crate) mod descriptors;
mod group;
pub mod own_environment;
mod own_folder;

pub(crate) use group::ProcessGroup;
pub(crate) use own_folder::OwnFolder;
