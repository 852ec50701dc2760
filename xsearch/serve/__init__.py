"""The server: search, media and previews of collections over HTTP.

contract    requests and answers, as pydantic models: the OpenAPI document
app         the application, its collections and its routes
"""

__all__: list[str] = []
