"""The routes of the server, by what they are about.

search       /v1/search, /v1/items/{id}/similar, /v1/embed
items        /v1/items and what is sent of them
locate       /v1/items/{id}/locate
uploads      /v1/uploads
collections  /v1/info, /v1/facets, /v1/map, /v1/events
drawings     /v1/drawings
visits       /healthz, /metrics, /login
answers      for the command line and `xsearch.connect`
"""

from xsearch.serve.routes import answers, collections, drawings, items, locate, search, uploads, visits

__all__ = ["ROUTERS"]

ROUTERS = tuple(
    each.router for each in (search, items, locate, uploads, drawings, collections, visits, answers)
)
