"""A worker beside an Orthanc archive: studies come from it, reports go back."""
