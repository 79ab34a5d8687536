"""Stores: a folder or a bucket of any S3 server behind one interface, named by a URI."""
